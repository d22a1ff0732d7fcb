"""XMP packets, read by an XML parser: no document type, so no entity, is ever let in, and the time is linear.

What a packet says about the picture itself stays, byte for byte where nothing has to go. What it says about parts that
are not carried over goes: previews, the video of a motion photo, gain and depth maps, and a packet that continues it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final
from xml.dom import expatbuilder, minidom
from xml.parsers.expat import ExpatError, ParserCreate

_RDF: Final = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_ORIENTATION: Final = ("http://ns.adobe.com/tiff/1.0/", "Orientation")
_DECLARATION: Final = "http://www.w3.org/2000/xmlns/"

#: Namespaces that tell of other pictures, videos and sounds in the file, or hold them.
_OTHER_PARTS: Final = (
    "http://ns.google.com/photos/1.0/container/",  # and container/item/
    "http://ns.google.com/photos/1.0/depthmap/",
    "http://ns.google.com/photos/1.0/image/",
    "http://ns.google.com/photos/1.0/audio/",
    "http://ns.google.com/photos/1.0/focus/",
    "http://ns.google.com/photos/dd/1.0/",  # dynamic depth
    "http://ns.adobe.com/hdr-gain-map/1.0/",
    "http://ns.apple.com/HDRGainMap/1.0/",
    "http://ns.apple.com/HDRToneMap/1.0/",
    "http://ns.apple.com/depthData/1.0/",
    "http://ns.apple.com/pixeldatainfo/1.0/",
    "http://ns.adobe.com/xmp/note/",  # a packet that continues this one
    "http://ns.adobe.com/xap/1.0/g/img/",
)
#: Prefixes as they are usually declared.
_USUAL: Final = {
    "xmlns": _DECLARATION,
    "rdf": _RDF,
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "dc": "http://purl.org/dc/elements/1.1/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "xmpRights": "http://ns.adobe.com/xap/1.0/rights/",
    "plus": "http://ns.useplus.org/ldf/xmp/1.0/",
    "cc": "http://creativecommons.org/ns#",
    "Container": "http://ns.google.com/photos/1.0/container/",
    "Item": "http://ns.google.com/photos/1.0/container/item/",
    "GDepth": "http://ns.google.com/photos/1.0/depthmap/",
    "GImage": "http://ns.google.com/photos/1.0/image/",
    "GAudio": "http://ns.google.com/photos/1.0/audio/",
    "hdrgm": "http://ns.adobe.com/hdr-gain-map/1.0/",
    "HDRGainMap": "http://ns.apple.com/HDRGainMap/1.0/",
    "xmpNote": "http://ns.adobe.com/xmp/note/",
    "xmpGImg": "http://ns.adobe.com/xap/1.0/g/img/",
}
#: Properties of the same kind in the namespaces of cameras (Google, Oppo, Xiaomi and others).
_OTHER_PART: Final = re.compile(
    r"MotionPhoto\w*|MicroVideo\w*|(?:Motion|Live)?(?:Photo)?Video(?:Length|Offset)|Thumbnails"
)
_JPEG_AS_TEXT: Final = "/9j/"  # how the bytes of a JPEG begin in base 64
_RIGHTS: Final = (
    ("http://purl.org/dc/elements/1.1/", "creator"),
    ("http://purl.org/dc/elements/1.1/", "rights"),
    ("http://ns.adobe.com/photoshop/1.0/", "Credit"),
    ("http://ns.adobe.com/xap/1.0/rights/", None),
    ("http://ns.useplus.org/ldf/xmp/1.0/", None),
    ("http://creativecommons.org/ns#", None),
    (_RDF, "about"),
)
_LONGEST: Final = 8 << 20  # a text chunk, a JPEG segment or a TIFF tag holds less
_DEEPEST: Final = 100  # honest packets have some ten levels

Node = minidom.Element | minidom.Attr
#: Told an element and an attribute or a child of it.
_Drop = Callable[[minidom.Element, Node], bool]


def xmp_orientation(packet: bytes | None) -> int | None:
    """The orientation that a packet gives; ``None`` where it gives none or cannot be read."""
    document = _parse(packet)
    if document is None:
        return None
    for element in _elements(document):
        texts = [node.value for node in element.attributes.values() if _name(node) == _ORIENTATION]
        texts += [_text(element)] if _name(element) == _ORIENTATION else []
        if texts and texts[0].strip() in tuple("12345678"):
            return int(texts[0])
    return None


def clean_xmp(packet: bytes | None) -> bytes | None:
    """The packet without the orientation and without what belongs to other parts of the file.

    ``None`` for one that no parser reads: what is in it cannot be known, and nobody else would read it.
    """
    return _reduced(packet, lambda parent, node: _is_foreign(node))


def keep_rights(packet: bytes | None) -> bytes | None:
    """A packet that holds the rights fields of another, and nothing else; ``None`` if there are none."""
    reduced = _reduced(packet, lambda parent, node: _is_description(parent) and not _is_right(node))
    document = _parse(reduced)
    for element in [] if document is None else _elements(document):
        if _is_description(element):
            names = [node for node in element.attributes.values() if _name(node)[0] not in (_DECLARATION, _RDF)]
            if names or any(isinstance(child, minidom.Element) for child in element.childNodes):
                return reduced
    return None


def _parse(packet: bytes | None) -> minidom.Document | None:
    packet = packet.strip(b"\x00 \r\n\t\xef\xbb\xbf") if packet else b""
    if not packet or len(packet) > _LONGEST:
        return None
    try:
        _vet(packet)
        # As text: what the packet says of its encoding does not count.
        text = packet.decode("utf-8")
        try:
            return minidom.parseString(text)
        except ExpatError:  # well-formed but for a prefix that is not declared: then it is meant as usual
            return expatbuilder.parseString(text, namespaces=False)
    except (ExpatError, ValueError, LookupError):
        return None


def _vet(packet: bytes) -> None:
    """Raise for a document type, which could define entities, and for a depth at which building a tree takes long.

    Raises:
        ValueError: there is one of these.
        ExpatError: it is no XML in UTF-8.
    """
    parser = ParserCreate("utf-8")
    depth = 0

    def enter(name: str, attributes: object) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST:
            raise ValueError("nested too deeply")

    def leave(name: str) -> None:
        nonlocal depth
        depth -= 1

    def refuse(*declaration: object) -> None:
        raise ValueError("a document type")

    parser.StartElementHandler, parser.EndElementHandler = enter, leave
    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(packet, True)


def _elements(document: minidom.Document) -> Iterator[minidom.Element]:
    """All elements. Children that are taken away meanwhile are not visited."""
    waiting = [document.documentElement]
    while waiting:
        element = waiting.pop()
        if element is not None:
            yield element
            waiting += [child for child in reversed(element.childNodes) if isinstance(child, minidom.Element)]


def _reduced(packet: bytes | None, drop: _Drop) -> bytes | None:
    document = _parse(packet)
    if document is None or packet is None:
        return None
    changed = False
    for element in _elements(document):
        for attribute in list(element.attributes.values()):
            if _name(attribute)[0] != _DECLARATION and drop(element, attribute):
                element.removeAttributeNode(attribute)
                changed = True
        kept = [node for node in element.childNodes if not (isinstance(node, minidom.Element) and drop(element, node))]
        if len(kept) < len(element.childNodes):
            # All at once: to take them away one by one takes time by the square of their number.
            element.childNodes[:] = kept
            changed = True
    if not changed:
        return packet.rstrip(b"\x00")
    return "".join(node.toxml() for node in document.childNodes).encode("utf-8")


def _text(node: Node) -> str:
    if isinstance(node, minidom.Attr):
        return node.value
    return "".join(child.data for child in node.childNodes if isinstance(child, minidom.Text))


def _is_description(element: minidom.Element) -> bool:
    return _name(element) == (_RDF, "Description")


def _name(node: Node) -> tuple[str, str]:
    """Namespace and name; the usual namespace of a prefix that is not declared."""
    prefix, _, name = node.nodeName.rpartition(":")
    return node.namespaceURI or _USUAL.get(prefix, ""), name


def _is_foreign(node: Node) -> bool:
    space, name = _name(node)
    return (
        (space, name) == _ORIENTATION
        or space.startswith(_OTHER_PARTS)
        or _OTHER_PART.fullmatch(name) is not None
        or _text(node).lstrip().startswith(_JPEG_AS_TEXT)
    )


def _is_right(node: Node) -> bool:
    found = _name(node)
    return any(found == (space, name or found[1]) for space, name in _RIGHTS)
