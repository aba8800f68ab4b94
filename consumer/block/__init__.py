"""What to block, and the forms in which pam_access, nftables, hosts.deny and commands get it. Pure."""
