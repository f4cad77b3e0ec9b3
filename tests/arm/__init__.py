"""`python -m tests.arm`: the device's side of edgepatch on emulated ARM machines, held against this one.

Debian's packages make a folder with an ARM Python, pip installs the wheels that a Raspberry Pi would get, and qemu runs
that: the tests of `inside`, and what it says of pictures. docs/raspberry-pi.md has the same lines for a real one.
"""
