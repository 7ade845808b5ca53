"""Random calls of everything that the contract has, by a seed: what was found can be had again."""
