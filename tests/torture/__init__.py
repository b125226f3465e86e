"""Real managers under real faults: is what their clients saw linearizable? (docs/torture.md)

make torture [MANAGERS=3|5] [MINUTES=10] [SEED=S] [FAULTS=kill,pause,...] [OUT=folder]
"""
