"""What is learned from: data sets, batched transforms and views. One file is one data set; a name is a module."""
