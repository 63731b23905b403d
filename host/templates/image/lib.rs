//! {{name}}: a picture in, what can be said of it out. `POST /describe` takes a JPEG, PNG or WebP.

use serde::Serialize;
use wharf_guest::{Format, Html, Image, Json, PixelFormat, Result, Router, service};

/// Width and height within which the mean colour is taken.
const SMALL: u32 = 64;

#[service]
fn app() -> Router {
    Router::new()
        .get("/", || Html(include_str!("page.html")))
        .post("/describe", describe)
}

#[derive(Serialize)]
struct Description {
    width: u32,
    height: u32,
    format: Option<&'static str>,
    /// As CSS writes it: `#rrggbb`.
    mean_color: String,
}

/// The host decodes the picture and keeps it. Shrinking it there first leaves 12 KB that cross into the sandbox,
/// however large it was.
fn describe(image: Image) -> Result<Json<Description>> {
    let small = image.fit(SMALL, SMALL)?.convert(PixelFormat::Rgb8)?;
    Ok(Json(Description {
        width: image.width(),
        height: image.height(),
        format: image.source_format().map(format_name),
        mean_color: hex(mean(&small.pixels())),
    }))
}

fn format_name(format: Format) -> &'static str {
    match format {
        Format::Jpeg => "jpeg",
        Format::Png => "png",
        Format::Webp => "webp",
    }
}

/// The mean of R, G and B over packed RGB pixels; black if there are none.
fn mean(pixels: &[u8]) -> [u8; 3] {
    let (pixels, _) = pixels.as_chunks::<3>();
    let count = pixels.len().max(1);
    std::array::from_fn(|channel| {
        let sum: usize = pixels.iter().map(|pixel| usize::from(pixel[channel])).sum();
        // A mean of bytes is a byte.
        ((sum + count / 2) / count) as u8
    })
}

fn hex([r, g, b]: [u8; 3]) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

#[cfg(test)]
mod tests {
    use wharf_guest::{Method, Request};

    use super::*;

    #[test]
    fn the_mean_is_taken_for_each_channel_and_rounded() {
        assert_eq!(mean(&[0, 10, 255, 1, 20, 255]), [1, 15, 255]);
        assert_eq!(mean(&[]), [0, 0, 0]);
    }

    #[test]
    fn colors_are_written_as_css_does() {
        assert_eq!(hex([200, 100, 4]), "#c86404");
    }

    /// Pictures need the host, so `/describe` is tested with curl; what stands before it is not.
    #[test]
    fn the_page_is_served_and_other_methods_are_not() {
        assert_eq!(app().call(Request::new(Method::GET, "/")).status(), 200);
        assert_eq!(
            app().call(Request::new(Method::GET, "/describe")).status(),
            405
        );
        assert_eq!(
            app().call(Request::new(Method::POST, "/describe")).status(),
            400
        );
    }
}
