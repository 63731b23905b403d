//! `multipart/form-data` (RFC 7578), strictly: what browsers and curl send, with limits. Pure: the body
//! is read whole first, and a part borrows from it.

use std::ops::Range;

use memchr::memmem;

use crate::headers::{media_type, parameter};
use crate::{Error, FromRequest, Image, Request, Result};

/// Parts of one form.
const MAX_PARTS: usize = 256;
/// Bytes of one part's header.
const MAX_HEADER_BYTES: usize = 8 * 1024;
/// RFC 2046, section 5.1.1.
const MAX_BOUNDARY_BYTES: usize = 70;

/// The parts of a `multipart/form-data` body. Another content type is a 415, a malformed body a 400, more
/// than 256 parts a 413.
#[derive(Debug)]
pub struct Multipart {
    body: Vec<u8>,
    parts: Vec<PartRange>,
}

#[derive(Debug)]
struct PartRange {
    name: String,
    filename: Option<String>,
    content_type: Option<String>,
    content: Range<usize>,
}

/// One field of a form.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The field's name.
    pub name: &'a str,
    /// Set for a file.
    pub filename: Option<&'a str>,
    /// As the caller claims.
    pub content_type: Option<&'a str>,
    /// The contents.
    pub bytes: &'a [u8],
}

impl Multipart {
    /// All parts, in order.
    pub fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        self.parts.iter().map(|part| Part {
            name: &part.name,
            filename: part.filename.as_deref(),
            content_type: part.content_type.as_deref(),
            bytes: self.body.get(part.content.clone()).unwrap_or_default(),
        })
    }

    /// The first part of that name; a 400 that names it if there is none.
    pub fn get(&self, name: &str) -> Result<Part<'_>> {
        self.parts()
            .find(|part| part.name == name)
            .ok_or_else(|| Error::bad_request(format!("the form has no field `{name}`, only {}", self.names())))
    }

    /// The first part that says it is a picture, else the first file.
    pub(crate) fn picture(&self) -> Result<Part<'_>> {
        let is_picture = |part: &Part| part.content_type.is_some_and(|kind| media_type(kind).starts_with("image/"));
        self.parts().find(is_picture).or_else(|| self.parts().find(|part| part.filename.is_some())).ok_or_else(|| {
            Error::unsupported_media_type(format!("expected a picture in the form, it has only {}", self.names()))
        })
    }

    fn names(&self) -> String {
        let names: Vec<String> = self.parts().map(|part| format!("`{}`", part.name)).collect();
        if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
    }
}

impl<'a> Part<'a> {
    /// The contents as text; a 400 if they are not UTF-8.
    pub fn text(&self) -> Result<&'a str> {
        str::from_utf8(self.bytes)
            .map_err(|error| Error::bad_request(format!("the form's field `{}` is not text: {error}", self.name)))
    }

    /// The contents as a picture.
    pub fn image(&self) -> Result<Image> {
        Ok(Image::decode(self.bytes)?)
    }
}

impl FromRequest for Multipart {
    fn from_request(request: &mut Request) -> Result<Self> {
        let content_type = request.header("content-type").unwrap_or_default();
        if media_type(content_type) != "multipart/form-data" {
            return Err(Error::unsupported_media_type(format!("expected multipart/form-data, got `{content_type}`")));
        }
        let boundary = parameter(content_type, "boundary").unwrap_or_default();
        parse(&boundary, request.take_body()?)
    }
}

fn malformed(what: &str) -> Error {
    Error::bad_request(format!("multipart body: {what}"))
}

fn parse(boundary: &str, body: Vec<u8>) -> Result<Multipart> {
    if boundary.is_empty() || boundary.len() > MAX_BOUNDARY_BYTES {
        return Err(malformed("the content type needs a `boundary` of 1 to 70 characters"));
    }
    let delimiter = format!("\r\n--{boundary}");
    let delimiter = memmem::Finder::new(delimiter.as_bytes());
    let mut parts = Vec::new();
    let mut at = first_part(&body, &delimiter)?;
    // Each round starts behind a delimiter: `--` ends the form, a line break starts a part.
    loop {
        let rest = body.get(at..).unwrap_or_default();
        if rest.starts_with(b"--") {
            return Ok(Multipart { body, parts });
        }
        let line_end = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(rest.len());
        if !rest.get(line_end..).unwrap_or_default().starts_with(b"\r\n") {
            return Err(malformed("a boundary is followed by neither a line break nor `--`"));
        }
        if parts.len() == MAX_PARTS {
            let message = format!("multipart body: more than {MAX_PARTS} parts");
            return Err(Error::new(http::StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        // The line break also starts the delimiter of a part without any header.
        let start = at + line_end + 2;
        let length = body
            .get(start - 2..)
            .and_then(|rest| delimiter.find(rest))
            .ok_or_else(|| malformed("the last boundary is missing: the body is cut off"))?;
        let end = start - 2 + length;
        parts.push(part(&body, start..end.max(start))?);
        at = end + delimiter.needle().len();
    }
}

/// Where the first delimiter ends. It may lack its line break at the very start of the body.
fn first_part(body: &[u8], delimiter: &memmem::Finder<'_>) -> Result<usize> {
    let bare = delimiter.needle().get(2..).unwrap_or_default();
    if body.starts_with(bare) {
        return Ok(bare.len());
    }
    let found = delimiter.find(body).ok_or_else(|| match body {
        [] => malformed("it is empty"),
        _ => malformed("the boundary of the content type does not occur"),
    })?;
    Ok(found + delimiter.needle().len())
}

/// Header and contents of one part, which lies at `range`.
fn part(body: &[u8], range: Range<usize>) -> Result<PartRange> {
    let bytes = body.get(range.clone()).unwrap_or_default();
    let window = bytes.get(..MAX_HEADER_BYTES.min(bytes.len())).unwrap_or_default();
    let header_end = memmem::find(window, b"\r\n\r\n")
        .ok_or_else(|| malformed("a part's header has no end, or is longer than 8 KiB"))?;
    let header = str::from_utf8(window.get(..header_end).unwrap_or_default())
        .map_err(|_| malformed("a part's header is not UTF-8"))?;
    let field = |wanted: &str| {
        header.split("\r\n").find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim())
        })
    };
    let disposition = field("content-disposition").unwrap_or_default();
    if media_type(disposition) != "form-data" {
        return Err(malformed("a part lacks `content-disposition: form-data`"));
    }
    let name = parameter(disposition, "name").ok_or_else(|| malformed("a part lacks a `name`"))?;
    Ok(PartRange {
        name,
        filename: parameter(disposition, "filename"),
        content_type: field("content-type").map(str::to_owned),
        content: range.start + header_end + 4..range.end,
    })
}

#[cfg(test)]
mod tests;
