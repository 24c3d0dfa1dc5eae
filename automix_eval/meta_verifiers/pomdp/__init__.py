"""The POMDP of the paper: problem, costs, solution, policy and its words."""
