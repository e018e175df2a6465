"""gpt1: the complete GPT-1 (Radford et al. 2018). No framework is imported before it is chosen."""
