"""Answers IPv6 neighbor solicitations for addresses that live behind this host.

A map of the rooms. Each imports only from those above it.

    verdict     why a frame was not answered
    policy      with what to answer, where that is the operator's choice
    addresses   which addresses are answered for

    packet      octets to messages and back
    filter      addresses to a program for the kernel
    link        one packet socket on one interface
    rtnetlink   requests to the kernel's tables, and the messages of its replies
    netlink     what the kernel knows about the uplink, asked in a process of its own
    log         what the program says
    config      what the operator wrote, validated
    places      in which line of a TOML text a key stands
    containers  what is known of what containers hold
    docker      the same, asked of the engine in threads of its own
    claim       by which process a configuration file is in use
    systemd     what the service manager is told
    control     the socket where the daemon is asked what it is at
    status      the reply to that in words for people

    decide      solicitation, addresses and policy to an answer or a verdict
    multicast   which groups must be heard, and being a member of them
    gateway     keeps the gateway's neighbor entry where the kernel cannot
    sight       what passed, for those who watch
    file        a configuration file to a configuration, or to one error
    client      asks the daemons of this host
    report      a configuration in words for people
    monitor     shows what daemons see as it passes
    ndppd       a configuration of ndppd to a configuration file
    announce    tells the router what has come to live here
    hearing     what passes on the link about some addresses, and what follows from it
    host        the facts of this host that decide what becomes of a packet
    checks      what stands in a packet's way, and what mends it
    responder   the path of a frame, and what is counted on it
    uplink      one interface while it is there: answering, and following what changes around it
    station     one interface of the configuration: waits for it, however often it goes and comes
    state       what a daemon is at, as one document
    metrics     what the daemon does, for Prometheus
    daemon      assembles, runs, reloads, stops
    doctor      listens, reads the host, and says what it found
    explain     says what becomes of one address
    cli         the commands

docs/architecture.md follows a frame and an address through them.
"""

__version__ = "0.1.0"
