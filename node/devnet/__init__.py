"""A whole network on one machine: real validator processes, published keys, a folder to throw away.

state      what the network is: homes, ports, identities (devnet.json)
homes      making the validators' homes
processes  starting, finding, stopping them
network    `up` and `down` as steps
watch      the live table
"""
