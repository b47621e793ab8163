"""What runs as a trial: pretraining methods (one file each) and evaluations. Usable without Ray and without Aim."""
