"""XMP: what belongs to parts that are not carried over goes, all else stays, and no packet takes long or expands."""

from __future__ import annotations

from xml.etree.ElementTree import canonicalize

import pytest

from bitterant.imaging.xmp import clean_xmp, forbid_training, forbids_training, keep_rights, xmp_orientation

SPACES = {
    "GCamera": "http://ns.google.com/photos/1.0/camera/",
    "Container": "http://ns.google.com/photos/1.0/container/",
    "Item": "http://ns.google.com/photos/1.0/container/item/",
    "GDepth": "http://ns.google.com/photos/1.0/depthmap/",
    "GImage": "http://ns.google.com/photos/1.0/image/",
    "Device": "http://ns.google.com/photos/dd/1.0/device/",
    "hdrgm": "http://ns.adobe.com/hdr-gain-map/1.0/",
    "HDRGainMap": "http://ns.apple.com/HDRGainMap/1.0/",
    "xmpNote": "http://ns.adobe.com/xmp/note/",
    "OpCamera": "http://ns.oplus.com/photos/1.0/camera/",
    "MiCamera": "http://ns.xiaomi.com/photos/1.0/camera/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "g": "http://ns.adobe.com/xap/1.0/g/img/",
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "dc": "http://purl.org/dc/elements/1.1/",
    "GPano": "http://ns.google.com/photos/1.0/panorama/",
    "odd": "http://example.org/odd/",
}
KEPT = '<dc:rights><rdf:Alt><rdf:li xml:lang="x-default">© Zoë &amp; Co</rdf:li></rdf:Alt></dc:rights>'


def packet(attributes: str = "", elements: str = "") -> bytes:
    spaces = " ".join(f'xmlns:{prefix}="{space}"' for prefix, space in SPACES.items())
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><!-- note --><rdf:RDF '
        f'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" {spaces} '
        f'GPano:UsePanoramaViewer="True" {attributes}>{KEPT}{elements}</rdf:Description></rdf:RDF></x:xmpmeta>'
        '<?xpacket end="w"?>'
    ).encode()


@pytest.mark.parametrize(
    ("attributes", "elements"),
    [
        ('GCamera:MotionPhoto="1" GCamera:MotionPhotoVersion="1" GCamera:MotionPhotoPresentationTimestampUs="5"', ""),
        ('GCamera:MicroVideo="1" GCamera:MicroVideoOffset="5012"', ""),
        ("", "<GCamera:MotionPhoto>1</GCamera:MotionPhoto>"),
        ('OpCamera:VideoLength="9" OpCamera:MotionPhotoOwner="x" MiCamera:MotionPhoto="1"', ""),
        ("", '<Container:Directory><rdf:Seq><rdf:li rdf:parseType="Resource"><Container:Item Item:Mime="video/mp4" '
             'Item:Semantic="MotionPhoto" Item:Length="5"/></rdf:li></rdf:Seq></Container:Directory>'),
        ('hdrgm:Version="1.0" hdrgm:GainMapMax="2"', "<hdrgm:Gamma>1</hdrgm:Gamma>"),
        ('HDRGainMap:HDRGainMapVersion="65536"', ""),
        ('GDepth:Format="RangeInverse" GImage:Mime="image/jpeg"', "<Device:Cameras><rdf:Seq/></Device:Cameras>"),
        ('xmpNote:HasExtendedXMP="0123456789ABCDEF"', ""),
        ("", "<xmp:Thumbnails><rdf:Alt><rdf:li><g:image>/9j/4AAQ</g:image></rdf:li></rdf:Alt></xmp:Thumbnails>"),
        ('odd:preview="/9j/4AAQSkZJRg=="', ""),
        ('tiff:Orientation="6"', ""),
        ("", "<tiff:Orientation> 6 </tiff:Orientation>"),
    ],
)  # fmt: skip
def test_what_belongs_to_other_parts_goes_and_the_rest_stays(attributes, elements):
    cleaned = clean_xmp(packet(attributes, elements))
    assert cleaned is not None
    assert canonicalize(cleaned.decode(), with_comments=True) == canonicalize(packet().decode(), with_comments=True)
    assert clean_xmp(cleaned) == cleaned


def test_a_preview_is_known_by_what_it_is_wherever_it_lies():
    deep = "<odd:Thing><rdf:Bag><rdf:li><odd:p>/9j/4AAQSkZJRg==</odd:p></rdf:li></rdf:Bag></odd:Thing>"
    cleaned = clean_xmp(packet("", deep))
    assert cleaned is not None
    assert b"/9j/" not in cleaned
    assert b"odd:Thing>" in cleaned


def test_a_packet_in_which_nothing_has_to_go_stays_byte_for_byte():
    assert clean_xmp(packet() + b"\x00") == packet()


@pytest.mark.parametrize(
    ("attributes", "elements", "found"),
    [
        ('tiff:Orientation="6"', "", 6),
        ("tiff:Orientation = '8'", "", 8),
        ("", "<tiff:Orientation> 3 </tiff:Orientation>", 3),
        ('tiff:Orientation="up"', "", None),
        ('odd:Orientation="6"', "", None),
        ("", "", None),
    ],
)
def test_orientation(attributes, elements, found):
    assert xmp_orientation(packet(attributes, elements)) == found


def test_a_prefix_means_nothing_and_the_namespace_everything():
    rdf = b"http://www.w3.org/1999/02/22-rdf-syntax-ns#"
    other = b'<r:RDF xmlns:r="' + rdf + b'"><r:Description xmlns:t="%s" t:Orientation="6"/></r:RDF>'
    assert xmp_orientation(other % SPACES["tiff"].encode()) == 6
    assert xmp_orientation(other % b"http://example.org/tiff/") is None


def test_a_prefix_that_is_not_declared_is_meant_as_usual():
    bare = b'<rdf:RDF><rdf:Description tiff:Orientation="6" hdrgm:Version="1" dc:title="Cat"/></rdf:RDF>'
    assert xmp_orientation(bare) == 6
    assert clean_xmp(bare) == b'<rdf:RDF><rdf:Description dc:title="Cat"/></rdf:RDF>'


def test_rights_alone_are_kept():
    kept = keep_rights(packet('xmp:CreatorTool="x"', "<odd:Person>Ann</odd:Person>"))
    assert kept is not None
    assert "© Zoë &amp; Co" in kept.decode()
    assert not any(word in kept for word in (b"CreatorTool", b"Ann", b"UsePanoramaViewer"))
    assert keep_rights(packet().replace(KEPT.encode(), b"")) is None


BOMB = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]><x>&b;</x>'


@pytest.mark.parametrize(
    "bad",
    [
        BOMB,
        b"<?xml version='1.0'?>\n" + BOMB,
        BOMB.decode().encode("utf-16"),
        b"<not xml",
        b"",
        b"<a>" * 200_000 + b"</a>" * 200_000,
        b"<x>&unknown;</x>",
        b"<x>\xff\xfe</x>",
    ],
)
def test_what_no_parser_may_read_is_not_carried_over(bad):
    assert xmp_orientation(bad) is None
    assert keep_rights(bad) is None
    assert clean_xmp(bad) is None


@pytest.mark.parametrize(
    "many",
    [
        packet("", "<xmp:Thumbnails/>" * 40_000),
        packet(" ".join(f'odd:a{i}="1"' for i in range(20_000))),
        packet("", "<odd:x>" * 400_000 + "</odd:x>" * 400_000),
        packet("   " * 500_000),
        b"<xmp:Thumbnails" * 100_000,
    ],
    ids=["children", "attributes", "depth", "blanks", "unclosed"],
)
def test_large_packets_end(many):
    """Each of these takes minutes where the time grows with the square of the length; the run's limit would tell."""
    cleaned = clean_xmp(many)
    assert cleaned is None or b"Thumbnails" not in cleaned
    assert xmp_orientation(many) is None


# ------------------------------------------------------------------ no training
DMI = "http://ns.useplus.org/ldf/vocab/DMI-"
PLUS = 'xmlns:plus="http://ns.useplus.org/ldf/xmp/1.0/"'
RDF = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'


def packet_of(description: str) -> bytes:
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {RDF}>{description}</rdf:RDF></x:xmpmeta>'.encode()


def test_a_picture_without_a_packet_gets_one() -> None:
    made = forbid_training(None)
    assert forbids_training(made)
    assert not forbids_training(None)
    assert clean_xmp(made) == made
    assert keep_rights(made) is not None, "a mark is a right"


@pytest.mark.parametrize(
    "description",
    [
        '<rdf:Description rdf:about="uuid:1&amp;2" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:title="  ü &lt;"/>',
        '<rdf:Description rdf:about=""/><!-- </rdf:RDF> -->',
        "",
    ],
)
def test_all_else_in_a_packet_stays_byte_for_byte(description: str) -> None:
    packet = packet_of(description)
    marked = forbid_training(packet)
    assert forbids_training(marked)
    added = len(marked) - len(packet)
    assert any(marked[:at] + marked[at + added :] == packet for at in range(len(packet))), "more than one place changed"
    if "uuid" in description:
        assert marked.count(b'rdf:about="uuid:1&amp;2"') == 2, "XMP is about one thing"


def test_what_only_looks_like_the_end_is_none() -> None:
    packet = f'<rdf:RDF {RDF}><rdf:Description rdf:about=""/></rdf:RDF><!-- </rdf:RDF> -->'.encode()
    assert forbids_training(forbid_training(packet))


@pytest.mark.parametrize(
    ("value", "stays"),
    [
        ("PROHIBITED-AIMLTRAINING", True),
        ("PROHIBITED", True),
        ("PROHIBITED-EXCEPTSEARCHENGINEINDEXING", True),
        ("PROHIBITED-GENAIMLTRAINING", False),
        ("PROHIBITED-SEECONSTRAINT", False),
        ("ALLOWED", False),
        ("UNSPECIFIED", False),
    ],
)
@pytest.mark.parametrize("form", ["attribute", "element", "address"])
def test_what_forbids_as_much_stays_and_what_allows_is_replaced(value: str, stays: bool, form: str) -> None:
    about = f'<rdf:Description rdf:about="" {PLUS}>{{}}</rdf:Description>'
    forms = {
        "attribute": f'<rdf:Description rdf:about="" {PLUS} plus:DataMining="{DMI}{value}"/>',
        "element": about.format(f"<plus:DataMining>{DMI}{value}</plus:DataMining>"),
        "address": about.format(f'<plus:DataMining rdf:resource="{DMI}{value}"/>'),
    }
    packet = packet_of(forms[form])
    assert forbids_training(packet) is stays
    marked = forbid_training(packet)
    assert forbids_training(marked)
    assert (marked == packet) is stays
    assert marked.count(b"DMI-") == 1


@pytest.mark.parametrize("packet", [b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>', f"<rdf:RDF {RDF}/>".encode(), b"junk"])
def test_a_packet_without_a_place_for_it_is_given_one(packet: bytes) -> None:
    assert forbids_training(forbid_training(packet))
