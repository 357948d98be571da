"""The XML inside office files."""

from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

from shared.domain.documents import DocumentUnreadable

_DAMAGED = "The file is damaged or incomplete. Open it in the program that made it, save it again and send that."


class _NoDeclarations(TreeBuilder):
    """Refuses document types: office files have none, and entities are how XML grows without end."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Refuse.

        Raises:
            DocumentUnreadable: always.
        """
        del name, pubid, system
        raise DocumentUnreadable("It declares XML entities, which office programs never do.")


def parsed(content: bytes) -> Element:
    """The root of a part.

    Raises:
        DocumentUnreadable: it is damaged, or declares entities.
    """
    parser = XMLParser(target=_NoDeclarations())  # noqa: S314 - without declarations there are no entities to expand
    try:
        parser.feed(content)
        root: Element = parser.close()
    except (ParseError, ValueError, LookupError):
        raise DocumentUnreadable(_DAMAGED) from None
    return root


def local(element: Element) -> str:
    """An element's name without its namespace."""
    return element.tag.rpartition("}")[2]
