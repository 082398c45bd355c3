"""How a list is read: bytes in, items out. Everything here is pure: nothing opens a file or a connection.

How a line of a list travels:

1. `parse.parse_list` takes a stream, and `decode.text_of` makes text of its bytes. The first piece of the text tells
   the format, unless the user named it. A list in base64 is unwrapped by `decode`, and its content is begun with again.
2. The parser of the format finds the parts that may be a proxy: a line, a record with named fields, or a string.
3. A line is read by `lines.parse_line`, a record by `records.parse_object`. Both leave the spelling of an endpoint to
   `proxywhirl.urls`.
4. Each part becomes a `Candidate` (a proxy), a `Rejected` (it has the shape of one and is wrong) or an `Ignored`.

| format | parser | what it finds |
|---|---|---|
| `text` | `lines.parse_text` | lines; headings; blocks of `name: value` |
| `json` | `structured.parse_json` | strings and records at any place of a document, or under a path |
| `jsonl` | `structured.parse_json_lines` | one such value on each line |
| `csv` | `structured.parse_csv` | rows as records by the header, or lines |
| `html` | `pages.parse_page` | rows of tables as records by the header, or lines; else the page's text |
| `base64` | `decode.unwrapped` | any of the others within |

A format is one function, a `parse.Parser`: it takes the pieces of the text and `ParseOptions`, and yields items. A
built-in one stands in the table of `parse`. One of another package is an entry point (`docs/sources.md`). No item and
no error shows a credential.
"""
