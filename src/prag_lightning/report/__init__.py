"""`prag report`: all results under a folder as one page, with intervals, the paper's numbers and paired comparisons."""
