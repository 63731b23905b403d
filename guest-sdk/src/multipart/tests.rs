//! Forms as browsers and curl send them, and forms that are broken.

use http::Method;

use super::*;

fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (header, content) in parts {
        body.extend_from_slice(format!("--XX\r\n{header}\r\n\r\n").as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--XX--\r\n");
    body
}

fn failure(boundary: &str, body: &[u8]) -> (u16, String) {
    let error = parse(boundary, body.to_vec()).unwrap_err();
    (error.status().as_u16(), error.message().to_owned())
}

const FIELD: &str = "Content-Disposition: form-data; name=\"note\"";
const FILE: &str = "content-disposition: form-data; name=\"file\"; filename=\"a.png\"\r\nContent-Type: image/png";

#[test]
fn fields_and_files_come_out_as_they_went_in() {
    let multipart = parse("XX", form(&[(FIELD, b"hello"), (FILE, b"\x89PNG\r\n--X\r\n\r\n")])).unwrap();
    let parts: Vec<Part> = multipart.parts().collect();
    assert_eq!(parts.len(), 2);
    assert_eq!((parts[0].name, parts[0].filename, parts[0].text().unwrap()), ("note", None, "hello"));
    assert_eq!((parts[1].filename, parts[1].content_type), (Some("a.png"), Some("image/png")));
    assert_eq!(parts[1].bytes, b"\x89PNG\r\n--X\r\n\r\n");
    assert_eq!(multipart.picture().unwrap().name, "file");
    assert_eq!(multipart.get("note").unwrap().bytes, b"hello");
    let missing = multipart.get("image").unwrap_err();
    assert_eq!(
        (missing.status().as_u16(), missing.message()),
        (400, "the form has no field `image`, only `note`, `file`")
    );
}

#[test]
fn a_preamble_an_epilogue_and_blanks_after_the_boundary_are_allowed() {
    let body = b"to be ignored\r\n--XX \t\r\ncontent-disposition: form-data; name=a\r\n\r\n\r\n--XX--ignored";
    let multipart = parse("XX", body.to_vec()).unwrap();
    let parts: Vec<Part> = multipart.parts().collect();
    assert_eq!((parts[0].name, parts[0].bytes), ("a", b"".as_slice()));
}

#[test]
fn an_empty_form_has_no_parts() {
    let multipart = parse("XX", b"--XX--\r\n".to_vec()).unwrap();
    assert_eq!(multipart.parts().count(), 0);
    assert_eq!(multipart.picture().unwrap_err().message(), "expected a picture in the form, it has only nothing");
}

#[test]
fn broken_forms_say_what_is_wrong() {
    let whole = form(&[(FILE, b"picture")]);
    assert_eq!(
        failure("", &whole),
        (400, "multipart body: the content type needs a `boundary` of 1 to 70 characters".into())
    );
    assert_eq!(failure("XX", b""), (400, "multipart body: it is empty".into()));
    assert_eq!(failure("YY", &whole), (400, "multipart body: the boundary of the content type does not occur".into()));
    assert_eq!(
        failure("XX", &whole[..whole.len() - 8]),
        (400, "multipart body: the last boundary is missing: the body is cut off".into())
    );
    assert_eq!(
        failure("XX", b"--XXX\r\n"),
        (400, "multipart body: a boundary is followed by neither a line break nor `--`".into())
    );
    assert_eq!(
        failure("XX", &form(&[("content-type: image/png", b"")])),
        (400, "multipart body: a part lacks `content-disposition: form-data`".into())
    );
    assert_eq!(
        failure("XX", &form(&[("content-disposition: form-data; filename=a", b"")])),
        (400, "multipart body: a part lacks a `name`".into())
    );
    let long = format!("{FIELD}\r\nx: {}", "y".repeat(MAX_HEADER_BYTES));
    assert_eq!(failure("XX", &form(&[(&long, b"")])).0, 400);
    assert_eq!(failure("XX", &form(&vec![(FIELD, b"".as_slice()); MAX_PARTS + 1])).0, 413);
}

#[test]
fn every_truncation_of_a_form_is_an_error_and_none_panics() {
    let whole = form(&[(FIELD, b"hello"), (FILE, b"picture")]);
    let last_boundary = whole.len() - 2;
    for length in 0..last_boundary {
        assert!(parse("XX", whole[..length].to_vec()).is_err(), "{length} bytes were taken as whole");
    }
    assert!(parse("XX", whole[..last_boundary].to_vec()).is_ok());
}

#[test]
fn another_content_type_is_refused() {
    let mut request = Request::new(Method::POST, "/").with_header("content-type", "text/plain").with_body("x");
    let error = Multipart::from_request(&mut request).unwrap_err();
    assert_eq!((error.status().as_u16(), error.message()), (415, "expected multipart/form-data, got `text/plain`"));
}
