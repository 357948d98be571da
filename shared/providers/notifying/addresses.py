"""Which network addresses a notification may be sent to, so that no channel reaches into the router's own network."""

import ipaddress
import socket
from collections.abc import Sequence

from aiohttp import AddrInfoType

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_WIRE_SERVER = ipaddress.ip_address("168.63.129.16")
"""Azure's own address for platform services inside every virtual network; public by its number.

https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
"""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""IPv4 behind a translator: RFC 6052."""


class ForbiddenAddressError(OSError):
    """A connection to an address that is not permitted; one text, so that those of several addresses are alike."""

    def __init__(self) -> None:
        super().__init__("the address is not permitted")


class AddressGuard:
    """Permits public addresses, and networks that are named.

    It stands where the socket is made, behind every resolver and cache, so what was checked is what is connected to.

    Args:
        allowed: networks that are permitted though they are not public.
        permits_all: for the local environment.
    """

    def __init__(self, allowed: Sequence[Network] = (), *, permits_all: bool = False) -> None:
        self._allowed = tuple(allowed)
        self._permits_all = permits_all

    def permits(self, address: str) -> bool:
        """Whether a numeric address may be connected to; what is none may not."""
        if self._permits_all:
            return True
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        meant = (found, *_embedded(found))
        return all(any(one in network for network in self._allowed) or _is_public(one) for one in meant)

    def open_socket(self, target: AddrInfoType) -> socket.socket:
        """A socket for a connection, as aiohttp makes it.

        Raises:
            ForbiddenAddressError: the target is not permitted.
        """
        family, kind, protocol, _, address = target
        if not self.permits(str(address[0])):
            raise ForbiddenAddressError
        return socket.socket(family, kind, protocol)


def _embedded(address: _Address) -> list[_Address]:
    """IPv4 addresses that an IPv6 address leads to."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [one for one in found if one is not None]


def _is_public(address: _Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped or address in _NAT64):
        return True  # what it leads to decides
    return address.is_global and not address.is_multicast and address != _WIRE_SERVER
