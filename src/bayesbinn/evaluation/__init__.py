"""How good a network is and how sure: metrics of runs, and their report."""
