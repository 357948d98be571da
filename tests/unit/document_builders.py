"""Small documents of every format, made here: what a test is about is what it passes in."""

import io
import zipfile
from email.message import EmailMessage

import xlsxwriter
from pptx import Presentation
from pptx.util import Emu, Inches, Pt

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
WHITE = "1 1 1 rg"


def zipped(parts, *, compression=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def run(text, properties=""):
    style = f"<w:rPr>{properties}</w:rPr>" if properties else ""
    return f'<w:r>{style}<w:t xml:space="preserve">{text}</w:t></w:r>'


def paragraph(*runs, style=""):
    named = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{named}{''.join(runs)}</w:p>"


def docx(*body, title="", comments=(), declaration=""):
    """A Word document of `paragraph`s or other XML."""
    types = (
        '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Default Extension="xml" ContentType="application/xml"/>'
        '<Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-officedocument.'
        'wordprocessingml.document.main+xml"/></Types>'
    )
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
    relations = (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        f'<Relationship Id="rId1" Type="{office}" Target="word/document.xml"/></Relationships>'
    )
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="Heading{level}"><w:name w:val="heading {level}"/></w:style>'
        for level in (1, 2)
    )
    parts = {
        "[Content_Types].xml": types,
        "_rels/.rels": relations,
        "word/document.xml": f'{declaration}<w:document xmlns:w="{W}"><w:body>{"".join(body)}</w:body></w:document>',
        "word/styles.xml": f'<w:styles xmlns:w="{W}">{styles}</w:styles>',
        "word/_rels/document.xml.rels": (
            '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
            '<Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/styles" '
            'Target="styles.xml"/></Relationships>'
        ),
    }
    if title:
        parts["docProps/core.xml"] = (
            '<cp:coreProperties xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/core-properties" '
            f'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{title}</dc:title></cp:coreProperties>'
        )
    if comments:
        inner = "".join(f'<w:comment w:id="{i}">{paragraph(run(text))}</w:comment>' for i, text in enumerate(comments))
        parts["word/comments.xml"] = f'<w:comments xmlns:w="{W}">{inner}</w:comments>'
    return zipped(parts)


def pptx(build):
    """A presentation; `build` gets it to fill."""
    presentation = Presentation()
    build(presentation)
    buffer = io.BytesIO()
    presentation.save(buffer)
    return buffer.getvalue()


def slide(presentation, title, body=(), *, notes=""):
    """A slide with a title and lines."""
    made = presentation.slides.add_slide(presentation.slide_layouts[1])
    made.shapes.title.text = title
    made.placeholders[1].text = "\n".join(body)
    if notes:
        made.notes_slide.notes_text_frame.text = notes
    return made


def text_box(made, text, *, left=1.0, top=1.0, points=None):
    """A box with text, its place in inches."""
    box = made.shapes.add_textbox(Inches(left), Inches(top), Emu(914400), Emu(914400))
    box.text_frame.text = text
    if points:
        box.text_frame.paragraphs[0].runs[0].font.size = Pt(points)
    return box


def xlsx(sheets, *, hidden=()):
    """A workbook: rows by the sheet's name."""
    buffer = io.BytesIO()
    book = xlsxwriter.Workbook(buffer, {"in_memory": True})
    for name, rows in sheets.items():
        sheet = book.add_worksheet(name)
        for number, row in enumerate(rows):
            sheet.write_row(number, 0, row)
        if name in hidden:
            sheet.hide()
    book.close()
    return buffer.getvalue()


def show(text, *, at=(72, 700), size=12, before="", mode=0):
    """Operators that show a line of text on a PDF page."""
    return f"q {before} BT /F1 {size} Tf {mode} Tr {at[0]} {at[1]} Td ({text}) Tj ET Q"


def pdf(*pages, title="", picture_pages=()):
    """A PDF; each page is its operators. Pages whose number is in `picture_pages` have a picture over all of them."""
    objects = ["", ""]
    font = len(objects) + 1
    objects.append("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
    picture = len(objects) + 1
    data = "808080>"
    objects.append(
        f"<< /Type /XObject /Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceRGB /BitsPerComponent 8 "
        f"/Filter /ASCIIHexDecode /Length {len(data)} >>\nstream\n{data}\nendstream"
    )
    kids = []
    for number, page in enumerate(pages, 1):
        operators = page
        if number in picture_pages:
            operators = f"q 612 0 0 792 0 0 cm /Im1 Do Q {page}"
        objects.append(f"<< /Length {len(operators)} >>\nstream\n{operators}\nendstream")
        kids.append(len(objects) + 1)
        resources = f"<< /Font << /F1 {font} 0 R >> /XObject << /Im1 {picture} 0 R >> >>"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources {resources} "
            f"/Contents {len(objects)} 0 R >>"
        )
    info = ""
    if title:
        objects.append(f"<< /Title ({title}) >>")
        info = f"/Info {len(objects)} 0 R "
    objects[0] = "<< /Type /Catalog /Pages 2 0 R >>"
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(f'{kid} 0 R' for kid in kids)}] /Count {len(kids)} >>"
    out, offsets = "%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n"
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    start, size = len(out), len(objects) + 1
    out += f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n<< /Size {size} /Root 1 0 R {info}>>\n"
    return f"{out}startxref\n{start}\n%%EOF\n".encode("latin-1")


def eml(subject, text, *, html=None, attachments=()):
    """A message with attachments of (name, bytes)."""
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = subject, "ann@example.com", "bob@example.com"
    message["Date"] = "Mon, 02 Nov 2026 10:00:00 +0000"
    if text is not None:
        message.set_content(text)
    if html is not None:
        message.add_alternative(html, subtype="html") if text is not None else message.set_content(html, subtype="html")
    for name, content in attachments:
        message.add_attachment(content, maintype="application", subtype="pdf", filename=name)
    return message.as_bytes()


def odt(body, *, styles=""):
    """An OpenDocument text."""
    namespaces = " ".join(
        f'xmlns:{prefix}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
        for prefix, name in (
            ("office", "office"), ("text", "text"), ("table", "table"), ("style", "style"),
            ("fo", "xsl-fo-compatible"),
        )
    )  # fmt: skip
    content = (
        f"<office:document-content {namespaces}><office:automatic-styles>{styles}</office:automatic-styles>"
        f"<office:body><office:text>{body}</office:text></office:body></office:document-content>"
    )
    return zipped({"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": content})


def epub(chapters, *, title="Book"):
    """A book: pages in the order of its spine."""
    items = "".join(
        f'<item id="c{i}" href="c{i}.xhtml" media-type="application/xhtml+xml"/>' for i in range(len(chapters))
    )
    spine = "".join(f'<itemref idref="c{i}"/>' for i in range(len(chapters)))
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<metadata><dc:title>{title}</dc:title></metadata><manifest>{items}</manifest><spine>{spine}</spine></package>"
    )
    container = (
        '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="OPS/book.opf"/></rootfiles></container>'
    )
    pages = {f"OPS/c{i}.xhtml": page for i, page in enumerate(chapters)}
    return zipped(
        {"mimetype": "application/epub+zip", "META-INF/container.xml": container, "OPS/book.opf": package, **pages}
    )


def ole(*streams):
    """The beginning of an old Office file whose directory names these streams."""
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504) + b"".join(name.encode("utf-16-le") for name in streams)
