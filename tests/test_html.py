"""Photos of web pages: what a page offers, in every way that pages do, and nothing that it makes up."""

import json
import random

import pytest

from celebface.indexing.schemas import Reason
from celebface.transforms.web import html
from celebface.transforms.web.html import PageImages, images_of_page
from celebface.transforms.web.policy import WebFault

PAGE = "http://site.org/people/ann.html"
SITE = "http://site.org/people/"
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF"


def read(
    body: str | bytes, *, limit: int = 100, url: str = PAGE, content_type: str = "", opt_outs: bool = True
) -> PageImages:
    body = body if isinstance(body, bytes) else body.encode()
    return images_of_page(body, url, content_type, limit, opt_outs)


def images(body: str | bytes, **how) -> list[str]:
    """URLs of the photos, those beside the page by their names."""
    return [url.removeprefix(SITE) for url in read(body, **how).images]


def linked(*nodes: object) -> str:
    return "".join(f'<script type="application/ld+json">{json.dumps(node)}</script>' for node in nodes)


def refused(body: str | bytes, **how) -> Reason:
    with pytest.raises(WebFault) as raised:
        read(body, **how)
    assert not raised.value.passing
    return raised.value.reason


# --- where images are -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('<img src="a.jpg">', ["a.jpg"]),
        ("<IMG SRC=a.jpg>", ["a.jpg"]),
        ('<img src=" a.jpg\n">', ["a.jpg"]),
        ('<img src="a.jpg" srcset="a-400.jpg 400w, a-1200.jpg 1200w, a-800.jpg 800w">', ["a-1200.jpg"]),
        ('<img src="a.jpg" srcset="a-2x.jpg 2x, a-15.jpg 1.5x">', ["a-2x.jpg"]),
        ('<img src="a.jpg" srcset="b.jpg">', ["b.jpg"]),
        ('<img src="a.jpg" data-src="b.jpg">', ["b.jpg"]),
        ('<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=" data-src="b.jpg">', ["b.jpg"]),
        ('<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">', []),
        ('<img src="grey.gif" data-original="b.jpg">', ["b.jpg"]),
        ('<img src="grey.gif" data-lazy-src="b.jpg">', ["b.jpg"]),
        ('<img src="grey.gif" data-lazy="b.jpg">', ["b.jpg"]),
        ('<img src="a.jpg" data-lazy="true">', ["a.jpg"]),
        ('<img src="grey.gif" data-srcset="b-1.jpg 300w, b-2.jpg 600w">', ["b-2.jpg"]),
        ('<img src="grey.gif" data-src="b.jpg"><noscript><img src="b.jpg"></noscript>', ["b.jpg"]),
        ('<noscript><img src="b.jpg"></noscript>', ["b.jpg"]),
        ('<amp-img src="a.jpg"></amp-img>', ["a.jpg"]),
        ('<head><meta property="og:image" content="a.jpg"></head>', ["a.jpg"]),
        ('<meta property="og:image:secure_url" content="a.jpg">', ["a.jpg"]),
        ('<meta property="og:image:url" content="a.jpg">', ["a.jpg"]),
        ('<meta name="twitter:image" content="a.jpg">', ["a.jpg"]),
        ('<link rel="image_src" href="a.jpg">', ["a.jpg"]),
        ('<link rel="icon" href="a.jpg"><a href="b.jpg">b</a><img alt="c.jpg">', []),
    ],
)
def test_an_image_is_found_wherever_pages_put_it(body, expected):
    assert images(body) == expected


def test_of_a_picture_the_largest_is_taken_and_no_drawing():
    body = """
        <picture>
          <source type="image/svg+xml" srcset="drawn 9000w">
          <source type="image/avif" srcset="a.avif 600w, b.avif 900w">
          <source type="image/webp" srcset="b.webp 900w">
          <img src="a.jpg" srcset="a.jpg 300w, b.jpg 900w">
        </picture>
        <img src="c.jpg">
        <source srcset="video.jpg">"""
    assert images(body) == ["b.jpg", "c.jpg"]


def test_a_picture_without_sizes_gives_its_img():
    assert images('<picture><source srcset="a.webp"><img src="a.jpg"></picture>') == ["a.jpg"]


def test_an_unclosed_picture_lends_its_sources_to_one_img_only():
    assert images('<picture><source srcset="a.jpg 500w"><img src="s.jpg"><img src="b.jpg">') == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    ("srcset", "expected"),
    [
        ("a,b.jpg 100w, c.jpg 200w", "c.jpg"),
        ("c.jpg 100w, a,b.jpg 200w", "a,b.jpg"),
        ("a.jpg, b.jpg 2x", "b.jpg"),
        ("b.jpg 0.5x, a.jpg,", "a.jpg"),
        ("a.jpg 300w, " + "b" * 5000 + " 900w", "a.jpg"),
        ("a.jpg 2x,b.jpg 1x", "a.jpg"),
        (",, a.jpg 300w ,, b.jpg 200w", "a.jpg"),
        ("a.jpg 300w 200h, b.jpg 500w 100h", "b.jpg"),
        ("a.jpg 300w, b.jpg (nested, 900w) 500w", "a.jpg"),
        ("a.jpg 300w, b.jpg wide", "a.jpg"),
        ("a.jpg 300w, b.jpg -900w", "a.jpg"),
        ("a.jpg 300w, b.jpg nanw, c.jpg infw", "a.jpg"),
        ("\ta.jpg\n300w,\r\n b.jpg\t600w", "b.jpg"),
        ("data:image/gif;base64,R0lGODlh 900w, a.jpg 300w", "a.jpg"),
    ],
)
def test_a_srcset_is_parsed_as_the_standard_says(srcset, expected):
    assert images(f'<img srcset="{srcset}">') == [expected]


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ({"image": "a.jpg"}, ["a.jpg"]),
        ({"image": ["a.jpg", "b.jpg"]}, ["a.jpg", "b.jpg"]),
        ({"image": {"@type": "ImageObject", "url": "a.jpg"}}, ["a.jpg"]),
        ({"image": [{"url": "a.jpg"}, "b.jpg"]}, ["a.jpg", "b.jpg"]),
        ({"image": {"@type": "ImageObject", "url": "a.jpg", "thumbnail": {"url": "t.jpg"}}}, ["a.jpg"]),
        ({"@type": "ImageObject", "contentUrl": "a.jpg", "url": "a.html", "thumbnailUrl": "t.jpg"}, ["a.jpg"]),
        ({"primaryImageOfPage": {"contentUrl": "a.jpg"}}, ["a.jpg"]),
        ({"thumbnailUrl": "a.jpg"}, ["a.jpg"]),
        ({"@type": "VideoObject", "contentUrl": "a.mp4", "thumbnailUrl": ["t.jpg"]}, ["t.jpg"]),
        ({"@graph": [{"@type": "WebPage", "mainEntity": {"@type": ["Person"], "image": "a.jpg"}}]}, ["a.jpg"]),
        ([{"image": "a.jpg"}, {"image": "b.jpg"}], ["a.jpg", "b.jpg"]),
        ({"publisher": {"logo": {"@type": "ImageObject", "url": "a.jpg"}}, "logo": {"url": "b.jpg"}}, []),
        ({"image": 3, "thumbnailUrl": None, "@type": 4, "license": {}}, []),
        ("a.jpg", []),
    ],
)
def test_images_of_structured_data_are_found(node, expected):
    assert images(linked(node)) == expected


def test_portraits_of_authors_are_not_what_a_page_shows():
    graph = [
        {"@type": "Article", "author": {"@id": "#writer"}, "image": {"@id": "#main"}, "publisher": {"image": "p.jpg"}},
        {"@type": "ImageObject", "@id": "#main", "url": "ann.jpg"},
        {"@type": "Person", "@id": "#writer", "image": {"@type": "ImageObject", "url": "writer.jpg"}},
    ]
    assert images(linked({"@graph": graph})) == ["ann.jpg"]


@pytest.mark.parametrize(
    "broken", ["{", '{"image": "b.jpg",}', "", "null", "[" * 100_000, '{"image": "b.jpg"} <!-- -->']
)
def test_broken_structured_data_is_passed_over(broken):
    script = f'<script type="application/ld+json">{broken}</script>'
    assert images(script + linked({"image": "a.jpg"}) + '<img src="c.jpg">') == ["a.jpg", "c.jpg"]


def test_images_come_in_the_order_of_the_page_each_once():
    body = f"""
        <meta property="og:image" content="{SITE}main.jpg">
        <link rel="image_src" href="main.jpg#top">
        {linked({"image": "main.jpg"})}
        <img src="b.jpg"><img src="./a.jpg"><img src="../people/b.jpg">
        <meta property="og:image:secure_url" content="HTTP://SITE.ORG:80/people/a.jpg">"""
    assert images(body) == ["main.jpg", "b.jpg", "a.jpg"]


def test_who_names_a_smaller_file_of_an_image_means_the_image():
    body = '<meta property="og:image" content="a.jpg"><img src="a.jpg" srcset="a-1200.jpg 1200w, a-600.jpg 600w">'
    assert images(body) == ["a-1200.jpg"]


def test_images_that_share_a_placeholder_stay_apart():
    body = "".join(f'<img src="grey.jpg" data-src="{name}.jpg">' for name in "abc")
    assert images(body) == ["a.jpg", "b.jpg", "c.jpg"]


def test_no_more_images_than_asked_for():
    assert images("".join(f'<img src="{number}.jpg">' for number in range(9)), limit=3) == ["0.jpg", "1.jpg", "2.jpg"]


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "src", "expected"),
    [
        ("http://cdn.org/x/", "a.jpg", "http://cdn.org/x/a.jpg"),
        ("../media/", "a.jpg", "http://site.org/media/a.jpg"),
        ("//cdn.org", "/a.jpg", "http://cdn.org/a.jpg"),
        ("", "//cdn.org/a.jpg", "http://cdn.org/a.jpg"),
        ("javascript:void(0)", "a.jpg", "http://site.org/people/a.jpg"),
        ("http://[broken", "a.jpg", "http://site.org/people/a.jpg"),
        ("a/" * 3000, "a.jpg", "http://site.org/people/a.jpg"),
        ("", "https://ann:secret@cdn.org/a b.jpg?w=1&amp;h=2#x", "https://cdn.org/a%20b.jpg?w=1&h=2"),
        ("", "/ü/å.jpg", "http://site.org/%C3%BC/%C3%A5.jpg"),
        ("", "http://münchen.de/a.jpg", "http://xn--mnchen-3ya.de/a.jpg"),
    ],
)
def test_urls_are_absolute_and_clean(base, src, expected):
    assert read(f'<base href="{base}"><img src="{src}">').images == (expected,)


def test_the_first_base_counts_wherever_it_stands():
    body = '<img src="a.jpg"><base target="x"><base href="/one/"><base href="/two/">'
    assert read(body).images == ("http://site.org/one/a.jpg",)


@pytest.mark.parametrize(
    "src",
    [
        "",
        "#",
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        "file:///etc/passwd",
        "ftp://site.org/a.jpg",
        "blob:http://site.org/1",
        "about:blank",
        "http://",
        "http://[::1",
        "http://a b.org/a.jpg",
        "a.jpg?" + "x" * 5000,
    ],
)
def test_what_cannot_be_asked_for_is_left_out(src):
    assert images(f'<img src="{src}"><img src="b.jpg">') == ["b.jpg"]


# --- what is no photo -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "attributes",
    [
        'width="1" height="1"',
        "width=99",
        'height="32px"',
        'width="300" height="20"',
        'style="width:40px"',
        'style="color: red; HEIGHT : 16.5px"',
        'srcset="a-16.jpg 16w, a-32.jpg 32w"',
    ],
)
def test_what_is_shown_small_is_left_out(attributes):
    assert images(f'<img src="a.jpg" {attributes}>') == []


@pytest.mark.parametrize(
    "attributes",
    [
        "width=100",
        'width="50%"',
        'height="auto"',
        'style="border-width: 1px; line-height: 20px"',
        'width="1200"',
        "width=",
    ],
)
def test_what_is_not_said_to_be_small_stays(attributes):
    assert images(f'<img src="a.jpg" {attributes}>') == ["a.jpg"]


@pytest.mark.parametrize(
    "name",
    [
        "favicon.ico",
        "favicon-96.png",
        "photo.svg",
        "120px-Flag.svg.png",
        "sprite.png",
        "sprites@2x.png",
        "spacer.gif",
        "blank.gif",
        "1x1.gif",
        "pixel.gif",
        "pixel?id=1",
        "logo.jpg",
        "site-logo.png",
        "icon_share.png",
        "icon32.png",
        "badge.png",
        "play-button.png",
        "/emoji/1f600.png",
        "/img/icons/star.png",
        "LOGO.PNG",
        "%6cogo.png",
        "loading.gif",
        "placeholder.jpg",
    ],
)
def test_names_tell_decoration(name):
    assert images(f'<img src="{name}">') == []


@pytest.mark.parametrize(
    "name",
    [
        "jenson-button.jpg",
        "style-icon-audrey.jpg",
        "cate-blanchett.png",
        "lexicon.png",
        "silicon.png",
        "catalogo.jpg",
        "pixels-festival.webp",
        "photo",
        "photo.gif",
        "clearwater.png",
    ],
)
def test_photos_of_people_with_such_names_stay(name):
    assert images(f'<img src="{name}">') == [name]


# --- licence and author -----------------------------------------------------------------------------------------------

CC = "https://creativecommons.org/licenses/by/4.0/"


@pytest.mark.parametrize(
    ("body", "licence", "author"),
    [
        (f'<link rel="license" href="{CC}">', CC, ""),
        (f'<a rel="nofollow license" href="{CC}">CC</a>', CC, ""),
        ('<a rel="license" href="/terms">terms</a>', "http://site.org/terms", ""),
        ('<a rel="license" href="javascript:x">terms</a>', "", ""),
        ('<meta name="DC.rights" content="All rights\nreserved">', "All rights reserved", ""),
        ('<meta name="dcterms.license" content="CC BY">', "CC BY", ""),
        ('<meta name="copyright" content="Ann Inc.">', "Ann Inc.", ""),
        (linked({"@type": "WebPage", "license": CC}), CC, ""),
        (linked({"@type": "ImageObject", "url": "a.jpg", "license": {"@id": CC}}), CC, ""),
        (linked({"image": {"url": "a.jpg", "creator": {"@type": "Person", "name": "Bob"}}}), "", "Bob"),
        (linked({"image": {"url": "a.jpg", "creator": "Bob", "creditText": "Bob / Agency"}}), "", "Bob"),
        (
            linked({"image": {"url": "a.jpg", "creditText": "Agency", "copyrightNotice": "© Agency"}}),
            "© Agency",
            "Agency",
        ),
        (linked({"@type": "Article", "creator": "the writer", "author": {"name": "the writer"}}), "", ""),
    ],
)
def test_terms_are_found(body, licence, author):
    page = read(body)
    assert (page.licence, page.author) == (licence, author)


def test_a_link_says_more_than_a_copyright_line():
    link = f'<a rel="license" href="{CC}">CC</a>'
    body = f'<meta name="copyright" content="Ann Inc.">{link}{link}'
    assert read(body).licence == CC


def test_terms_that_differ_are_no_terms_of_any_photo():
    first, second = (
        {"url": f"{name}.jpg", "creator": name, "license": f"http://{name}.org/"} for name in ("ann", "bob")
    )
    assert read(linked({"image": [first, second]})) == PageImages((f"{SITE}ann.jpg", f"{SITE}bob.jpg"), "", "")


def test_what_a_page_says_is_kept_short_and_plain():
    page = read(
        linked({"image": {"url": "a.jpg", "creator": "B\u202eo\x00b\x1b[31m \n" + "x" * 10_000, "license": " "}})
    )
    assert page.author == "B o b [31m " + "x" * (html.STATEMENT_LENGTH - len("B o b [31m "))
    assert page.licence == ""


# --- opt-outs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tag",
    [
        '<meta name="robots" content="noai">',
        '<meta name="robots" content="index, follow, NoImageAI">',
        '<META NAME="ROBOTS" CONTENT="noimageindex">',
        '<meta name="celebface" content="none">',
        '<meta name="tdm-reservation" content="1">',
    ],
)
def test_a_page_can_opt_out(tag):
    body = f"<html><head>{tag}</head><body><img src=a.jpg></body></html>"
    assert refused(body) == Reason.OPTED_OUT
    assert images(body, opt_outs=False) == ["a.jpg"]


@pytest.mark.parametrize(
    "tag",
    [
        '<meta name="robots" content="index, follow, max-image-preview:large">',
        '<meta name="robots" content="nofollow">',
        '<meta name="googlebot" content="noindex">',
        '<meta name="description" content="noai">',
        '<meta name="tdm-reservation" content="0">',
        "<meta name=robots>",
    ],
)
def test_a_page_that_does_not_opt_out_is_read(tag):
    assert images(f"{tag}<img src=a.jpg>") == ["a.jpg"]


# --- encodings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "before", "encoding"),
    [
        ("text/html; charset=iso-8859-1", "", "cp1252"),
        ('text/html; charset="Shift_JIS"', "", "cp932"),
        ("text/html; charset=utf-16-le", "", "utf-16-le"),
        ("text/html; charset=utf-8", '<meta charset="koi8-r">', "utf-8"),
        ("text/html", '<meta charset="windows-1251">', "cp1251"),
        ("text/html", '<meta http-equiv="Content-Type" content="text/html; charset=gb2312">', "gb18030"),
        ("text/html", '<meta charset="utf-16">', "utf-8"),
        ("text/html", "", "utf-8"),
        ("text/html", "", "utf-8-sig"),
        ("text/html; charset=koi8-r", "", "utf-16"),
        ("text/html; charset=nonsense", "", "utf-8"),
        ("text/html; charset=punycode", "", "utf-8"),
        ("text/html; charset=zip", "", "utf-8"),
    ],
)
def test_names_are_read_in_the_encoding_of_the_page(content_type, before, encoding):
    name = {"cp1252": "Zoë “Z”", "utf-16-le": "Анна", "cp1251": "Анна", "gb18030": "王菲", "cp932": "髙橋"}.get(
        encoding, "Åsa 王"
    )
    body = f'{before}<meta name="copyright" content="{name}"><img src="a.jpg">'.encode(encoding)
    assert read(body, content_type=content_type) == PageImages((f"{SITE}a.jpg",), name, "")


# --- bodies that are none ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (JPEG + b"<img src=a.jpg>", "text/html"),
        (b"\x89PNG\r\n\x1a\n<img src=a.jpg>", "text/html"),
        (b"GIF89a<img src=a.jpg>", ""),
        (b"RIFF\0\0\0\0WEBP<img src=a.jpg>", ""),
        (b"\0\0\0\x1cftypavif<img src=a.jpg>", ""),
        (b"%PDF-1.7\n<img src=a.jpg>", "text/html"),
        (b' {"html": "<img src=a.jpg>"}', "text/html"),
        (b"[" * 200_000, "text/html"),
        (b'{"html": "<img src=a.jpg>"}', "application/json; charset=utf-8"),
        (b'<?xml version="1.0"?><rss><img src="a.jpg"/></rss>', ""),
        (b"<svg><img src=a.jpg></svg>", ""),
        (b"just words, 1 < 2", "text/plain"),
        (b"", "text/html"),
        (b"\0" * 1000, "text/html"),
    ],
)
def test_what_is_not_html_is_refused(body, content_type):
    assert refused(body, content_type=content_type) == Reason.NOT_HTML


@pytest.mark.parametrize(
    "body",
    [
        '<?xml version="1.0"?><!DOCTYPE html><html xmlns="http://www.w3.org/1999/xhtml"><img src="a.jpg"/></html>',
        "{{ a template's rest }} <img src=a.jpg>",
        "\ufeff <!-- comment --><img src=a.jpg>",
        "RIFFLES<p><img src=a.jpg>"[4:],
    ],
)
def test_html_that_begins_oddly_is_read(body):
    assert images(body) == ["a.jpg"]


# --- garbage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [
        b"<div>" * 10_000,
        b"<div>" * 10_000 + b"</div>" * 10_000,
        b"<b><i>" * 10_000 + b"</p></td>" * 10_000,
        b"<table><tr><td>" * 5000,
        b"<" * 50_000,
        b"</x " * 50_000 + b">",
        b"&#" * 50_000,
        b'<a x="' + b"y" * 1_000_000 + b'">',
        b"<a " + b" ".join(b"a%d=1" % number for number in range(20_000)) + b">",
        b"\0<p\0>\0",
        b"\xff\xfe\xfd\x80" + b"<p>\xc3\x28\xf0\x28\x8c\x28",
        b"<!-- a -- b --><!-->",
        b"<img src srcset width style data-src><a rel href><meta name content><base href><picture><source type srcset>"
        b"</picture><script type></script>",
        b"<script>" + b"</scrip" * 10_000 + b"</script>",
        b"<p><![CDATA[ x ]]><?php echo '<img src=no.jpg' ?>",
    ],
)
def test_an_image_after_garbage_is_found(garbage):
    assert images(b"<html><img src=a.jpg>" + garbage + b"<img src=b.jpg>") == ["a.jpg", "b.jpg"]


def test_no_image_is_lost_where_a_fresh_parser_goes_on():
    expected = [f"{number}.jpg" for number in range(4000)]
    assert images("".join(f"<b><img src={name}>" for name in expected), limit=10_000) == expected


def test_of_images_and_their_files_only_so_many_are_looked_at(monkeypatch):
    monkeypatch.setattr(html, "_MOST_IMAGES", 3)
    monkeypatch.setattr(html, "_MOST_CANDIDATES", 2)
    body = "".join(f'<img srcset="{name}-1.jpg 100w, {name}-2.jpg 200w, {name}-3.jpg 300w">' for name in "abcd")
    assert images(body) == ["a-2.jpg", "b-2.jpg", "c-2.jpg"]


@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_are_survived(seed):
    assert isinstance(images(b"<html>" + random.Random(seed).randbytes(200_000)), list)


@pytest.mark.parametrize("end", ["<!-- ", "<script>", '<a href="', "<textarea>", "<", "</", "<!", "<?", "<img", "&"])
def test_what_is_never_closed_ends_with_the_page(end):
    assert images(f"<img src=a.jpg>{end}") == ["a.jpg"]


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "body",
    [
        b"<b>" * 400_000 + b"</i>" * 400_000,
        b"<img srcset='" + b"a.jpg 1w (" * 200_000 + b"'>",
        b"<img srcset='" + b"a ," * 700_000 + b"'>",
        b"<meta " * 300_000,
        b"<!-- " * 400_000,
        b"<p>{" * 500_000,
        b"".join(b"<img src='http://h%d.org/%d.jpg'>" % (n, n) for n in range(50_000)),
        b"<script type='application/ld+json'>" + b"[" * 1_000_000 + b"</script>",
    ],
)
def test_no_page_of_two_megabytes_takes_long(body):
    """Each takes less than a second; in quadratic time they would take minutes."""
    read(body)


# --- text of markup ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        ('<a href="//x.org" title="User:Ann">Ann</a>', "Ann"),
        ("Ann &amp; Bob", "Ann & Bob"),
        ("<p>Ann</p><p>Bob<br>Eve</p>", "Ann Bob Eve"),
        ("<style>p {}</style><b>Å</b>sa<script>x()</script>", "Åsa"),
        ("plain", "plain"),
        ("", ""),
        ("\ud800<b>\x07Ann", "? Ann"),
    ],
)
def test_markup_becomes_text(markup, expected):
    assert html.text_of(markup) == expected
