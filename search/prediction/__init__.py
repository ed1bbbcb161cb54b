"""What training would cost on other devices: layers are measured, the rest is simulated.

measurements  --> costs ------> simulation of stages, links, schedules, all-reduce --> prediction
(seconds and      (of blocks,
 bytes of layers)  at any batch)
"""
