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
from xml.sax.saxutils import quoteattr

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


#: The property of IPTC and PLUS that says what a picture may not be used for, and the values that no trainer may train
#: on: "Prohibited for AI/ML training", and the two that prohibit more. IPTC Photo Metadata Standard 2023.1, out of PLUS
#: LDF, https://ns.useplus.org/LDF/ldf-XMPSpecification#DataMining.
_DATA_MINING: Final = ("http://ns.useplus.org/ldf/xmp/1.0/", "DataMining")
_RESOURCE: Final = (_RDF, "resource")
_VOCABULARY: Final = "http://ns.useplus.org/ldf/vocab/"
NO_TRAINING: Final = f"{_VOCABULARY}DMI-PROHIBITED-AIMLTRAINING"
_FORBIDS_TRAINING: Final = (
    NO_TRAINING,
    f"{_VOCABULARY}DMI-PROHIBITED",
    f"{_VOCABULARY}DMI-PROHIBITED-EXCEPTSEARCHENGINEINDEXING",
)
_DESCRIPTION: Final = (
    f'<rdf:Description xmlns:rdf="{_RDF}" rdf:about={{about}} xmlns:plus="{_DATA_MINING[0]}">'
    f"<plus:DataMining>{NO_TRAINING}</plus:DataMining></rdf:Description>"
)
_PACKET: Final = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    f'<rdf:RDF xmlns:rdf="{_RDF}">{{description}}</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
_END_OF_RDF: Final = re.compile(rb"</(?:[\w.-]+:)?RDF\s*>")


def forbids_training(packet: bytes | None) -> bool:
    """Whether a packet says that no AI may be trained on the picture: by ``plus:DataMining``, all of it where it says
    so more than once."""
    document = _parse(packet)
    told = [] if document is None else [_value(node) for node in _told_of(document, _DATA_MINING)]
    return bool(told) and all(value in _FORBIDS_TRAINING for value in told)


def forbid_training(packet: bytes | None) -> bytes:
    """The packet with ``plus:DataMining`` set to "Prohibited for AI/ML training"; a new one where there is none.

    All else stays as it is, byte for byte where the property is new; so does a packet that forbids it already, and one
    that forbids more.
    """
    document = _parse(packet)
    if document is None or packet is None:
        return _PACKET.format(description=_DESCRIPTION.format(about='""')).encode("utf-8")
    if forbids_training(packet):
        return packet
    told = _told_of(document, _DATA_MINING)
    for node in told:
        _set_text(node, NO_TRAINING)
    if told:
        return _serialised(document)
    about = next((_text(node) for node in _told_of(document, (_RDF, "about"))), "")
    description = _DESCRIPTION.format(about=quoteattr(about))
    ends = list(_END_OF_RDF.finditer(packet))
    if ends:
        place = ends[-1].start()
        longer = packet[:place] + description.encode("utf-8") + packet[place:]
        if forbids_training(longer):  # what looked like the end may have been a comment
            return longer
    root = document.documentElement
    assert root is not None
    body = next((element for element in _elements(document) if _name(element) == (_RDF, "RDF")), root)
    added = minidom.parseString(_PACKET.format(description=description))
    missing = "Description" if _name(body) == (_RDF, "RDF") else "RDF"
    body.appendChild(document.importNode(added.getElementsByTagNameNS(_RDF, missing)[0], deep=True))
    return _serialised(document)


def _told_of(document: minidom.Document, wanted: tuple[str, str]) -> list[Node]:
    """Attributes and elements of a name, in the order of the packet."""
    found: list[Node] = []
    for element in _elements(document):
        found += [node for node in element.attributes.values() if _name(node) == wanted]
        found += [element] if _name(element) == wanted else []
    return found


def _value(node: Node) -> str:
    """The text of a property; an address may also stand in ``rdf:resource``."""
    links = [] if isinstance(node, minidom.Attr) else [a for a in node.attributes.values() if _name(a) == _RESOURCE]
    return (links[0].value if links else _text(node)).strip()


def _set_text(node: Node, text: str) -> None:
    if isinstance(node, minidom.Attr):
        node.value = text
        return
    for attribute in [a for a in node.attributes.values() if _name(a) == _RESOURCE]:
        node.removeAttributeNode(attribute)
    for child in list(node.childNodes):
        node.removeChild(child)
    document = node.ownerDocument
    assert document is not None
    node.appendChild(document.createTextNode(text))


def _serialised(document: minidom.Document) -> bytes:
    return "".join(node.toxml() for node in document.childNodes).encode("utf-8")


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
    return _serialised(document)


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
