//! Asks another service, by name, whether a face wears a mask.

use std::time::Duration;

use serde::Deserialize;
use wharf_guest::{Format, Image, Rect, Result, client, env};

/// Where that service is, e.g. `http://maskdetection:5000/predict`. Unset, nobody is asked.
const URL: &str = "MASK_URL";
/// For one face, there and back.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of the JPEG that is sent.
const QUALITY: u8 = 90;

/// What it answers, as far as we care.
#[derive(Deserialize)]
struct Answer {
    mask: bool,
}

pub struct Masks {
    url: String,
}

impl Masks {
    pub fn from_environment() -> Option<Self> {
        env(URL).filter(|url| !url.is_empty()).map(|url| Masks { url })
    }

    /// Whether the face in that part of the picture wears one.
    pub fn worn(&self, picture: &Image, face: Rect) -> Result<bool> {
        let face = picture.crop(face)?.encode(Format::Jpeg, QUALITY)?;
        let answer =
            client::post(&self.url).header("content-type", "image/jpeg").body(face).timeout(PATIENCE).send()?;
        let answer: Answer = answer.error_for_status()?.json()?;
        Ok(answer.mask)
    }
}
