//! The host's side of `wharf:vision`: pictures as handles.

use wasmtime::component::Resource;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, StreamError};
use wharf_tensor::Tensor;
use wharf_vision as vision;
use wharf_vision::Image;

use crate::bindings::wharf::vision::images::{
    Channels, Color, Error, ErrorKind, Filter, Format, Host, HostImage, Layout, PixelFormat, Rect, TensorOptions,
};
use crate::inference::dtype;
use crate::limits::OverLimit;
use crate::state::State;

type Answer<T> = wasmtime::Result<Result<T, Error>>;

/// Bytes read from a request's body, and written to a response's, at a time.
const CHUNK: usize = 1 << 20;

impl Host for State {}

impl HostImage for State {
    fn decode(&mut self, bytes: Vec<u8>) -> Answer<Resource<Image>> {
        let limits = self.picture_limits();
        self.image_answer(busy(bytes.len() > FEW_BYTES, || Image::decode(&bytes, &limits)))
    }

    async fn decode_body(&mut self, body: Resource<DynInputStream>) -> Answer<Resource<Image>> {
        let bytes = match self.read_to_end(&body).await? {
            Ok(bytes) => bytes,
            Err(error) => return Ok(Err(error)),
        };
        let limits = self.picture_limits();
        self.image_answer(busy(bytes.len() > FEW_BYTES, || Image::decode(&bytes, &limits)))
    }

    fn create(&mut self, width: u32, height: u32, color: Color) -> Answer<Resource<Image>> {
        let made = Image::create(width, height, color_in(color), &self.picture_limits());
        self.image_answer(made)
    }

    fn from_pixels(&mut self, format: PixelFormat, width: u32, height: u32, data: Vec<u8>) -> Answer<Resource<Image>> {
        let made = Image::from_pixels(pixel_format_in(format), width, height, data, &self.picture_limits());
        self.image_answer(made)
    }

    fn width(&mut self, handle: Resource<Image>) -> wasmtime::Result<u32> {
        Ok(self.table.get(&handle)?.width())
    }

    fn height(&mut self, handle: Resource<Image>) -> wasmtime::Result<u32> {
        Ok(self.table.get(&handle)?.height())
    }

    fn pixel_format(&mut self, handle: Resource<Image>) -> wasmtime::Result<PixelFormat> {
        Ok(match self.table.get(&handle)?.pixel_format() {
            vision::PixelFormat::Gray8 => PixelFormat::Gray8,
            vision::PixelFormat::Rgb8 => PixelFormat::Rgb8,
            vision::PixelFormat::Rgba8 => PixelFormat::Rgba8,
        })
    }

    fn source_format(&mut self, handle: Resource<Image>) -> wasmtime::Result<Option<Format>> {
        Ok(self.table.get(&handle)?.source_format().map(|format| match format {
            vision::Format::Jpeg => Format::Jpeg,
            vision::Format::Png => Format::Png,
            vision::Format::Webp => Format::Webp,
        }))
    }

    fn pixels(&mut self, handle: Resource<Image>) -> wasmtime::Result<Vec<u8>> {
        Ok(self.table.get(&handle)?.pixels().to_vec())
    }

    fn resize(&mut self, handle: Resource<Image>, width: u32, height: u32, filter: Filter) -> Answer<Resource<Image>> {
        let image = self.table.get(&handle)?;
        let made = busy(is_large(image), || image.resize(width, height, filter_in(filter), &self.picture_limits()));
        self.image_answer(made)
    }

    fn crop(&mut self, handle: Resource<Image>, area: Rect) -> Answer<Resource<Image>> {
        let area = vision::Rect { x: area.x, y: area.y, width: area.width, height: area.height };
        let made = self.table.get(&handle)?.crop(area);
        self.image_answer(made)
    }

    fn pad(
        &mut self,
        handle: Resource<Image>,
        left: u32,
        top: u32,
        right: u32,
        bottom: u32,
        color: Color,
    ) -> Answer<Resource<Image>> {
        let image = self.table.get(&handle)?;
        let made = image.pad(left, top, right, bottom, color_in(color), &self.picture_limits());
        self.image_answer(made)
    }

    fn convert(&mut self, handle: Resource<Image>, to: PixelFormat) -> Answer<Resource<Image>> {
        let made = self.table.get(&handle)?.convert(pixel_format_in(to), &self.picture_limits());
        self.image_answer(made)
    }

    fn to_tensor(&mut self, handle: Resource<Image>, options: TensorOptions) -> Answer<Resource<Tensor>> {
        let options = vision::TensorOptions {
            layout: match options.layout {
                Layout::Nchw => vision::Layout::Nchw,
                Layout::Nhwc => vision::Layout::Nhwc,
            },
            channels: match options.channels {
                Channels::Gray => vision::Channels::Gray,
                Channels::Rgb => vision::Channels::Rgb,
                Channels::Bgr => vision::Channels::Bgr,
            },
            dtype: dtype(options.datatype),
            scale: options.scale,
            mean: options.mean,
            std: options.std,
        };
        let image = self.table.get(&handle)?;
        Ok(match busy(is_large(image), || image.to_tensor(&options, &self.picture_limits())) {
            Ok(tensor) => self.hold_tensor(tensor)?.map_err(over_limit),
            Err(error) => Err(error_out(error)),
        })
    }

    fn draw_rect(
        &mut self,
        handle: Resource<Image>,
        x: i32,
        y: i32,
        width: u32,
        height: u32,
        color: Color,
        thickness: u32,
    ) -> wasmtime::Result<()> {
        self.table.get_mut(&handle)?.draw_rect(x, y, width, height, color_in(color), thickness);
        Ok(())
    }

    fn draw_text(
        &mut self,
        handle: Resource<Image>,
        x: i32,
        y: i32,
        text: String,
        color: Color,
        scale: u32,
    ) -> wasmtime::Result<()> {
        self.table.get_mut(&handle)?.draw_text(x, y, &text, color_in(color), scale);
        Ok(())
    }

    fn encode(&mut self, handle: Resource<Image>, format: Format, quality: u8) -> Answer<Vec<u8>> {
        let image = self.table.get(&handle)?;
        Ok(busy(is_large(image), || image.encode(format_in(format), quality)).map_err(error_out))
    }

    async fn encode_to(
        &mut self,
        handle: Resource<Image>,
        format: Format,
        quality: u8,
        body: Resource<DynOutputStream>,
    ) -> Answer<()> {
        let image = self.table.get(&handle)?;
        let encoded = match busy(is_large(image), || image.encode(format_in(format), quality)) {
            Ok(encoded) => encoded,
            Err(error) => return Ok(Err(error_out(error))),
        };
        let mut rest = bytes::Bytes::from(encoded);
        let stream = self.table.get_mut(&body)?;
        while !rest.is_empty() {
            let chunk = rest.split_to(rest.len().min(CHUNK));
            match stream.blocking_write_and_flush(chunk).await {
                Ok(()) => {}
                Err(StreamError::Trap(error)) => return Err(error),
                Err(error) => return Ok(Err(body_failed(&error))),
            }
        }
        Ok(Ok(()))
    }

    fn drop(&mut self, handle: Resource<Image>) -> wasmtime::Result<()> {
        self.drop_image(handle)
    }
}

impl State {
    fn image_answer(&mut self, made: Result<Image, vision::VisionError>) -> Answer<Resource<Image>> {
        Ok(match made {
            Ok(image) => self.hold_image(image)?.map_err(over_limit),
            Err(error) => Err(error_out(error)),
        })
    }

    /// Read a body to its end on the host. What it holds meanwhile is charged to the container.
    async fn read_to_end(&mut self, body: &Resource<DynInputStream>) -> Answer<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            match self.table.get_mut(body)?.blocking_read(CHUNK).await {
                Ok(chunk) => {
                    // Charged and released at once: the meter refuses what would pass the limit, and the
                    // decoded picture, which is larger, is charged for as long as it lives.
                    if let Err(over) = self.meter.hold(bytes.len() + chunk.len()) {
                        return Ok(Err(over_limit(over)));
                    }
                    self.meter.release(bytes.len() + chunk.len());
                    bytes.extend_from_slice(&chunk);
                }
                Err(StreamError::Closed) => return Ok(Ok(bytes)),
                Err(StreamError::Trap(error)) => return Err(error),
                Err(error @ StreamError::LastOperationFailed(_)) => return Ok(Err(body_failed(&error))),
            }
        }
    }
}

/// Compressed bytes, and pixels, of which work takes no longer than some 5 ms. To tell tokio that a thread is busy
/// makes it wake another one, which then takes time from a model that uses all cores: not worth it below.
const FEW_BYTES: usize = 256 << 10;
const FEW_PIXELS: u64 = 4 << 20;

/// Runs long work without keeping other tasks from this thread's queue; short work just runs.
fn busy<T>(long: bool, work: impl FnOnce() -> T) -> T {
    if long { tokio::task::block_in_place(work) } else { work() }
}

fn is_large(image: &Image) -> bool {
    u64::from(image.width()) * u64::from(image.height()) > FEW_PIXELS
}

fn body_failed(error: &StreamError) -> Error {
    Error { kind: ErrorKind::Body, message: format!("the body could not be transferred: {error}") }
}

fn over_limit(over: OverLimit) -> Error {
    Error { kind: ErrorKind::TooLarge, message: over.to_string() }
}

fn error_out(error: vision::VisionError) -> Error {
    let kind = match error.kind {
        vision::ErrorKind::Empty => ErrorKind::Empty,
        vision::ErrorKind::UnsupportedFormat => ErrorKind::UnsupportedFormat,
        vision::ErrorKind::Malformed => ErrorKind::Malformed,
        vision::ErrorKind::TooLarge => ErrorKind::TooLarge,
        vision::ErrorKind::InvalidArgument => ErrorKind::InvalidArgument,
    };
    Error { kind, message: error.message }
}

fn color_in(color: Color) -> vision::Color {
    vision::Color { r: color.r, g: color.g, b: color.b, a: color.a }
}

fn pixel_format_in(format: PixelFormat) -> vision::PixelFormat {
    match format {
        PixelFormat::Gray8 => vision::PixelFormat::Gray8,
        PixelFormat::Rgb8 => vision::PixelFormat::Rgb8,
        PixelFormat::Rgba8 => vision::PixelFormat::Rgba8,
    }
}

fn format_in(format: Format) -> vision::Format {
    match format {
        Format::Jpeg => vision::Format::Jpeg,
        Format::Png => vision::Format::Png,
        Format::Webp => vision::Format::Webp,
    }
}

fn filter_in(filter: Filter) -> vision::Filter {
    match filter {
        Filter::Nearest => vision::Filter::Nearest,
        Filter::Bilinear => vision::Filter::Bilinear,
        Filter::CatmullRom => vision::Filter::CatmullRom,
        Filter::Lanczos3 => vision::Filter::Lanczos3,
    }
}
