"""The publisher's side: keys, and the folder that a web server hosts."""
