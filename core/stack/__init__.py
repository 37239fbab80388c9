"""What a node makes of packets: bridging, ARP, IPv4, ICMP, UDP, flows. Uses state to link, never device."""
