"""Reads the records of finished or running sweeps: tables, curves, importance, Pareto fronts, reports, lineage.

    from analysis.table import best, table, write        one row per configuration, trial or evaluation
    from analysis.importance import importance           which coefficient matters for which metric
    from analysis.compare import compare                 several sweeps beside each other
    from analysis.explain import explain, text           where one number comes from
    from analysis.report import figures, report          plotly figures; PNG files and one offline HTML page

Nothing here imports torch, ray or aim; pandas, matplotlib, plotly and Optuna are imported where they are needed.
"""
