"""``atoll demo``: the main job on real input, told step by step; the exit code says if all held.

A cloud of real processes; a real directory and a large file go in through boto3; four of twelve
nodes are SIGKILLed, two in the middle of an upload, two in the middle of a download; everything is
read back while they are dead and before repair, then repair brings every segment to full strength.
Meanwhile what is stored and proven is charged and paid: at the end providers have on the chain what
the published epoch says, and the one that dropped data has less.
"""
