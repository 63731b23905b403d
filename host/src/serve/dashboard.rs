//! The page at `/` of the host port: what runs here and how to call it. One pure function from a view to HTML.
//!
//! Everything is on the page itself: no scripts, fonts or pictures from elsewhere, since an edge box has no way out.

use std::fmt::{self, Display, Write as _};
use std::net::SocketAddr;

use wharf_tensor::infer::TensorSpec;

use crate::service::Service;

const DEFAULT_URL: &str = "http://localhost:8000";

/// What the page shows.
#[derive(Clone, Debug, Default)]
pub struct DashboardView {
    /// Where this page's own port answers, for the examples; `None` is the default port on this machine.
    pub url: Option<String>,
    pub services: Vec<ServiceView>,
}

#[derive(Clone, Debug)]
pub struct ServiceView {
    pub name: String,
    /// Where it answers HTTP, e.g. `http://127.0.0.1:5000`; `None` for a bare model.
    pub url: Option<String>,
    pub models: Vec<ModelView>,
}

#[derive(Clone, Debug)]
pub struct ModelView {
    /// As the Open Inference Protocol finds it, e.g. `eyes/left`.
    pub name: String,
    pub platform: String,
    /// E.g. `cuda:0`; empty where nobody told.
    pub device: String,
    pub inputs: Vec<TensorView>,
    pub outputs: Vec<TensorView>,
}

#[derive(Clone, Debug)]
pub struct TensorView {
    pub name: String,
    pub datatype: String,
    /// `None` is a dimension the model leaves open.
    pub shape: Vec<Option<usize>>,
}

impl ServiceView {
    pub fn new(service: &Service, address: Option<SocketAddr>) -> ServiceView {
        let tensors = |specs: &[TensorSpec]| specs.iter().map(TensorView::from).collect();
        let model = |(model, infer): (&String, &std::sync::Arc<dyn wharf_tensor::infer::Infer>)| {
            let signature = infer.signature();
            let name = service.model_path(model);
            let (inputs, outputs) = (tensors(&signature.inputs), tensors(&signature.outputs));
            let device = service.placements.get(model).map(|placement| placement().device).unwrap_or_default();
            ModelView { name, platform: signature.platform.to_owned(), device, inputs, outputs }
        };
        ServiceView {
            name: service.name.to_string(),
            url: address.map(|address| format!("http://{address}")),
            models: service.models.iter().map(model).collect(),
        }
    }
}

impl From<&TensorSpec> for TensorView {
    fn from(spec: &TensorSpec) -> Self {
        TensorView { name: spec.name.to_string(), datatype: spec.dtype.name().to_owned(), shape: spec.shape.clone() }
    }
}

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b2733;--dim:#5d6b78;--line:#d9e0e6;--card:#fff;--page:#f4f6f8;--accent:#0b6bcb}\
@media(prefers-color-scheme:dark){:root{--ink:#e6ebf0;--dim:#93a1ae;--line:#2c3844;--card:#18222c;--page:#0f161d;--accent:#6db3f8}}\
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}\
main{max-width:60rem;margin:0 auto;padding:2rem 1rem}h1{margin:0;font-size:1.6rem}h2{margin:0;font-size:1.15rem}\
h3{margin:1rem 0 .25rem;font-size:1rem}p{margin:.25rem 0;color:var(--dim)}a{color:var(--accent);text-decoration:none}\
a:hover{text-decoration:underline}nav{margin:.5rem 0 1.5rem}nav a{margin-right:1rem}\
section{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:1rem 1.25rem;margin:0 0 1rem}\
table{border-collapse:collapse;margin:.5rem 0}td,th{text-align:left;padding:.15rem 1.5rem .15rem 0;font-weight:400}\
th{color:var(--dim)}code,pre{font:13px/1.5 ui-monospace,monospace}\
pre{background:var(--page);border:1px solid var(--line);border-radius:6px;padding:.6rem .8rem;margin:.5rem 0 0;\
overflow-x:auto;user-select:all}";

pub fn page(view: &DashboardView) -> String {
    let mut html = String::new();
    // Writing to a string cannot fail.
    let _ = write_page(&mut html, view);
    html
}

fn write_page(html: &mut String, view: &DashboardView) -> fmt::Result {
    write!(
        html,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>Wharf</title>\
         <link rel=\"icon\" href=\"data:,\"><style>{STYLE}</style></head>\n<body><main><h1>Wharf</h1>\
         <p>Version {}</p><nav><a href=\"/v2\">/v2</a><a href=\"/v2/health/ready\">/v2/health/ready</a>\
         <a href=\"/metrics\">/metrics</a></nav>\n",
        env!("CARGO_PKG_VERSION")
    )?;
    if view.services.is_empty() {
        html.write_str("<section><p>Nothing runs here yet.</p></section>\n")?;
    }
    for service in &view.services {
        write_service(html, service, view.url.as_deref().unwrap_or(DEFAULT_URL))?;
    }
    html.write_str("</main></body></html>\n")
}

fn write_service(html: &mut String, service: &ServiceView, host: &str) -> fmt::Result {
    write!(html, "<section><h2>{}</h2>", Escaped(&service.name))?;
    match &service.url {
        Some(url) => {
            let url = Escaped(url);
            write!(html, "<p>Service at <a href=\"{url}/\">{url}</a></p><pre>curl {url}/</pre>")?;
        }
        None => html.write_str("<p>Model without a service</p>")?,
    }
    for model in &service.models {
        write_model(html, model, host)?;
    }
    html.write_str("</section>\n")
}

fn write_model(html: &mut String, model: &ModelView, host: &str) -> fmt::Result {
    let path = format!("/v2/models/{}", PathSegment(&model.name));
    write!(html, "<h3><a href=\"{path}\">{}</a></h3><p>{}", Escaped(&model.name), Escaped(&model.platform))?;
    if !model.device.is_empty() {
        write!(html, " on {}", Escaped(&model.device))?;
    }
    html.write_str("</p><table>")?;
    for (kind, tensors) in [("input", &model.inputs), ("output", &model.outputs)] {
        for tensor in tensors {
            let (name, datatype, shape) = (Escaped(&tensor.name), Escaped(&tensor.datatype), shape(&tensor.shape));
            write!(html, "<tr><th>{kind}</th><td><code>{name}</code></td><td>{datatype}</td><td>{shape}</td></tr>")?;
        }
    }
    html.write_str("</table>")?;
    if let Some(example) = curl_example(model, &format!("{host}{path}")) {
        write!(html, "<pre>{}</pre>", Escaped(&example))?;
    }
    Ok(())
}

/// Elements of one input beyond which an example is too long to paste.
const EXAMPLE_ELEMENTS: usize = 4096;

/// A call that works as pasted: every input filled with zeros, open dimensions set to 1. The numbers come from
/// the shell, so that the line stays short. `None` where a datatype has no JSON form or an input is large.
fn curl_example(model: &ModelView, url: &str) -> Option<String> {
    let mut inputs = Vec::with_capacity(model.inputs.len());
    for input in &model.inputs {
        let shape: Vec<usize> = input.shape.iter().map(|dim| dim.unwrap_or(1)).collect();
        let count = shape.iter().try_fold(1usize, |count, dim| count.checked_mul(*dim))?;
        let zero = match input.datatype.as_str() {
            "FP16" | "BF16" => return None,
            "BOOL" => "false",
            "BYTES" => "\"\"",
            _ => "0",
        };
        let data = match count {
            0 => String::new(),
            1..=16 => vec![zero; count].join(","),
            // `'$(…)'` leaves the quotes for the shell to count.
            17..=EXAMPLE_ELEMENTS if zero == "0" => format!("0'$(printf ',0%.0s' $(seq {}))'", count - 1),
            _ => return None,
        };
        let name = serde_json::Value::from(input.name.as_str()).to_string().replace('\'', "'\\''");
        inputs.push(format!(
            r#"{{"name":{name},"shape":{},"datatype":"{}","data":[{data}]}}"#,
            shape_text(&shape),
            input.datatype
        ));
    }
    Some(format!("curl {url}/infer -d '{{\"inputs\":[{}]}}'", inputs.join(",")))
}

fn shape(dims: &[Option<usize>]) -> String {
    let dims: Vec<String> = dims.iter().map(|dim| dim.map_or("any".into(), |dim| dim.to_string())).collect();
    if dims.is_empty() { "scalar".into() } else { dims.join(" × ") }
}

fn shape_text(dims: &[usize]) -> String {
    let dims: Vec<String> = dims.iter().map(usize::to_string).collect();
    format!("[{}]", dims.join(","))
}

/// Text inside an element or a quoted attribute.
#[derive(Clone, Copy)]
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                character => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

/// A name as one segment of a path: what is not plain is percent-encoded, `/` included.
struct PathSegment<'a>(&'a str);

impl Display for PathSegment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => f.write_char(byte.into())?,
                byte => write!(f, "%{byte:02X}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, datatype: &str, shape: &[Option<usize>]) -> TensorView {
        TensorView { name: name.into(), datatype: datatype.into(), shape: shape.to_vec() }
    }

    fn model(name: &str, inputs: Vec<TensorView>) -> ModelView {
        let outputs = vec![tensor("scores", "FP32", &[None, Some(10)])];
        ModelView { name: name.into(), platform: "onnx_onnxv1".into(), device: "cuda:0".into(), inputs, outputs }
    }

    #[test]
    fn services_and_models_are_listed() {
        let digits = model("eyes/digits", vec![tensor("x", "FP32", &[None, Some(3)])]);
        let service =
            ServiceView { name: "eyes".into(), url: Some("http://127.0.0.1:5000".into()), models: vec![digits] };
        let html = page(&DashboardView { url: None, services: vec![service] });
        assert!(html.contains(r#"<a href="http://127.0.0.1:5000/">http://127.0.0.1:5000</a>"#));
        assert!(
            html.contains(r#"<a href="/v2/models/eyes%2Fdigits">eyes/digits</a></h3><p>onnx_onnxv1 on cuda:0</p>"#)
        );
        assert!(html.contains("<td>FP32</td><td>any × 3</td>"));
        assert!(html.contains("curl http://localhost:8000/v2/models/eyes%2Fdigits/infer -d"));
        assert!(page(&DashboardView::default()).contains("Nothing runs here yet."));
    }

    #[test]
    fn names_cannot_break_out_of_the_page() {
        let evil = "<script>\"'&/";
        let service = ServiceView {
            name: evil.into(),
            url: Some(format!("http://x{evil}")),
            models: vec![model(evil, vec![tensor(evil, "FP32", &[Some(1)])])],
        };
        let html = page(&DashboardView { url: None, services: vec![service] });
        assert!(!html.contains("<script"));
        assert!(html.contains("&lt;script&gt;&quot;&#39;&amp;/"));
        assert!(html.contains("href=\"/v2/models/%3Cscript%3E%22%27%26%2F\""));
        assert!(!html.contains("src="), "nothing is fetched");
    }

    #[test]
    fn examples_are_calls_that_fit_the_model() {
        let example = |inputs| curl_example(&model("m", inputs), "http://h/v2/models/m");
        assert_eq!(
            example(vec![tensor("x", "FP32", &[None, Some(3)]), tensor("s", "BYTES", &[Some(1)])]).unwrap(),
            r#"curl http://h/v2/models/m/infer -d '{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[0,0,0]},{"name":"s","shape":[1],"datatype":"BYTES","data":[""]}]}'"#
        );
        let large = example(vec![tensor("x", "FP32", &[Some(64)])]).unwrap();
        assert!(large.contains("[0'$(printf ',0%.0s' $(seq 63))']"));
        assert!(example(vec![tensor("x", "FP16", &[Some(1)])]).is_none());
        assert!(example(vec![tensor("x", "FP32", &[Some(224), Some(224)])]).is_none());
        assert!(example(vec![tensor("it's", "INT8", &[Some(1)])]).unwrap().contains(r"it'\''s"));
    }
}
