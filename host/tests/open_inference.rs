//! A bare model through the host's own port: Open Inference Protocol, metrics, dashboard, on ONNX Runtime.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use serde_json::{Value, json};
use support::guests::{example, fixture_model, model};
use support::host::{Shared, TestHost};
use support::http::{Answer, Client};

/// `digits.onnx` and `sum.onnx` (`a`, `b`: FP32 of any number of rows of three; `sum`, `difference`).
static HOST: Shared =
    Shared::new(|| TestHost::serve(&[&model("digits", "digits"), &fixture_model("sum")], &["--max-body", "1m"]));

const JSON_LENGTH: &str = "inference-header-content-length";

#[test]
fn the_host_says_what_it_is() {
    let host = HOST.get();
    let about = host.http().get("/v2").expect(200).json();
    assert_eq!((&about["name"], &about["version"]), (&json!("wharf"), &json!(env!("CARGO_PKG_VERSION"))));
    assert_eq!(about["extensions"], json!(["binary_tensor_data"]));
    assert_eq!(host.http().get("/v2/health/live").expect(200).json()["live"], true);
    assert_eq!(host.http().get("/v2/health/ready").expect(200).json()["ready"], true);
}

#[test]
fn a_model_says_what_it_takes() {
    let host = HOST.get();
    let mut digits = host.http().get("/v2/models/digits").expect(200).json();
    // How many are left after optimising depends on the processor.
    let nodes = digits["properties"].as_object_mut().unwrap().remove("nodes.CPUExecutionProvider");
    assert!(nodes.unwrap().as_str().unwrap().parse::<u32>().unwrap() > 0);
    assert_eq!(
        digits,
        json!({
            "name": "digits",
            "versions": ["1"],
            "platform": "onnx_onnxv1",
            "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 1, 8, 8]}],
            "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}],
            "properties": {"device": "cpu"},
        })
    );
    assert_eq!(host.http().get("/v2/models/digits/versions/1").expect(200).json()["name"], "digits");
    assert_eq!(host.http().get("/v2/models/digits/ready").expect(200).json()["ready"], true);
}

#[test]
fn json_in_json_out() {
    let host = HOST.get();
    let request = json!({
        "id": "42",
        "inputs": [tensor("a", &[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), tensor("b", &[[1.0; 3], [0.5; 3]])],
    });
    let answer = infer(host.http(), "sum", &request).expect(200).json();
    assert_eq!((&answer["id"], &answer["model_name"]), (&json!("42"), &json!("sum")));
    assert_eq!(output(&answer, "sum")["data"], json!([2.0, 3.0, 4.0, 4.5, 5.5, 6.5]));
    assert_eq!(output(&answer, "difference")["data"], json!([0.0, 1.0, 2.0, 3.5, 4.5, 5.5]));
    assert_eq!(output(&answer, "sum")["shape"], json!([2, 3]));
}

#[test]
fn only_the_outputs_asked_for() {
    let host = HOST.get();
    let inputs = [tensor("a", &[[1.0; 3]]), tensor("b", &[[2.0; 3]])];
    let request = json!({"inputs": inputs, "outputs": [{"name": "difference"}]});
    let answer = infer(host.http(), "sum", &request).expect(200).json();
    assert_eq!(answer["outputs"].as_array().unwrap().len(), 1);
    assert_eq!(output(&answer, "difference")["data"], json!([-1.0, -1.0, -1.0]));
}

#[test]
fn binary_in_binary_out() {
    let host = HOST.get();
    let input =
        |name: &str| json!({"name": name, "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": 12}});
    let parameters = json!({"binary_data_output": true});
    let head = json!({"inputs": [input("a"), input("b")], "parameters": parameters}).to_string();
    let body = [head.as_bytes(), &bytes(&[1.0, 2.0, 3.0]), &bytes(&[0.5, 0.5, 0.5])].concat();
    let headers = [(JSON_LENGTH, head.len().to_string())];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let answer = host.http().request("POST", "/v2/models/sum/infer", &headers, &body).expect(200);

    let length: usize = answer.header(JSON_LENGTH).unwrap().parse().unwrap();
    let (head, raw) = answer.body.split_at(length);
    let head: Value = serde_json::from_slice(head).unwrap();
    assert_eq!(output(&head, "sum")["parameters"]["binary_data_size"], 12);
    let expected = head["outputs"].as_array().unwrap().iter().flat_map(|output| match output["name"].as_str() {
        Some("sum") => bytes(&[1.5, 2.5, 3.5]),
        _ => bytes(&[0.5, 1.5, 2.5]),
    });
    assert_eq!(raw, expected.collect::<Vec<u8>>());
}

#[test]
fn every_datatype_passes_through() {
    let models: Vec<_> = TYPES.iter().map(|(name, ..)| fixture_model(&format!("typed-{name}"))).collect();
    let paths: Vec<_> = models.iter().map(AsRef::as_ref).collect();
    let host = TestHost::serve(&paths, &[]);
    for (name, datatype, data) in TYPES {
        let model = format!("typed-{name}");
        let metadata = host.http().get(&format!("/v2/models/{model}")).expect(200).json();
        let spec = &metadata["inputs"][0];
        assert_eq!(spec["datatype"], *datatype, "{metadata}");
        let data: Value = serde_json::from_str(data).unwrap();
        let shape: Vec<i64> = spec["shape"].as_array().unwrap().iter().map(|dim| dim.as_i64().unwrap().abs()).collect();
        let count = usize::try_from(shape.iter().product::<i64>()).unwrap();
        let data: Vec<Value> = data.as_array().unwrap().iter().cycle().take(count).cloned().collect();
        let input = json!({"name": spec["name"], "datatype": datatype, "shape": shape, "data": data});
        let answer = infer(host.http(), &model, &json!({"inputs": [input]})).expect(200).json();
        assert_eq!(answer["outputs"][0]["datatype"], *datatype, "{answer}");
        assert_eq!(answer["outputs"][0]["data"], json!(data), "{model}");
    }
}

/// Models, their datatypes, and values at the edges of each. The 16-bit floats have no JSON form.
const TYPES: &[(&str, &str, &str)] = &[
    ("bool", "BOOL", "[true, false]"),
    ("uint8", "UINT8", "[0, 255]"),
    ("uint16", "UINT16", "[0, 65535]"),
    ("uint32", "UINT32", "[0, 4294967295]"),
    ("uint64", "UINT64", "[0, 18446744073709551615]"),
    ("int8", "INT8", "[-128, 127]"),
    ("int16", "INT16", "[-32768, 32767]"),
    ("int32", "INT32", "[-2147483648, 2147483647]"),
    ("int64", "INT64", "[-9223372036854775808, 9223372036854775807]"),
    ("fp32", "FP32", "[-1.5, 0.25]"),
    ("fp64", "FP64", "[-1e300, 0.1]"),
    ("bytes", "BYTES", r#"["", "grün"]"#),
];

#[test]
fn errors_say_what_is_wrong() {
    let host = HOST.get();
    let http = host.http();
    let one = |input: Value| json!({"inputs": [input, tensor("b", &[[0.0; 3]])]});
    let cases = [
        (json!({"name": "a", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}), ["\"a\"", "4"]),
        (json!({"name": "a", "shape": [1, 3], "datatype": "INT64", "data": [1, 2, 3]}), ["\"a\"", "INT64"]),
        (json!({"name": "c", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}), ["\"c\"", ""]),
        (json!({"name": "a", "shape": [1, 3], "datatype": "FP32", "data": [1, 2]}), ["\"a\"", "2"]),
        (json!({"name": "a", "shape": [1, 3], "datatype": "FP31", "data": [1, 2, 3]}), ["FP31", ""]),
        (json!({"name": "a", "shape": [1, 3], "datatype": "FP32", "data": [1, "x", 3]}), ["\"a\"", ""]),
        (json!({"name": "a", "shape": [1, -3], "datatype": "FP32", "data": []}), ["", "-3"]),
    ];
    for (input, words) in cases {
        let error = infer(http, "sum", &one(input.clone())).expect(400).error();
        for word in words {
            assert!(error.contains(word), "{input}: {error}");
        }
    }
    let error = infer(http, "sum", &json!({"inputs": [tensor("a", &[[0.0; 3]])]})).expect(400).error();
    assert!(error.contains("\"b\""), "{error}");
    assert!(http.post("/v2/models/sum/infer", b"{\"inputs\":").expect(400).error().len() > 10);
    http.post("/v2/models/sum/infer", b"").expect(400);

    let error = infer(http, "nothing", &json!({"inputs": []})).expect(404).error();
    assert_eq!(error, "unknown model \"nothing\"; this host serves digits, sum");
    let error = http.get("/v2/models/sum/versions/7").expect(404).error();
    assert_eq!(error, "model \"sum\" has no version \"7\", only \"1\"");
    assert!(http.get("/v2/nope").expect(404).error().starts_with("no endpoint at /v2/nope; see /v2, /v2/health/ready"));
    let wrong = http.get("/v2/models/sum/infer").expect(405);
    assert_eq!(wrong.header("allow"), Some("POST"));
    let gzip = http.request("POST", "/v2/models/sum/infer", &[("content-encoding", "gzip")], b"x").expect(501);
    assert!(gzip.error().contains("gzip"));
    let large = http.post("/v2/models/sum/infer", &vec![b' '; 2 << 20]).expect(413);
    assert_eq!(large.error(), "the body is larger than the limit of 1048576 bytes");
}

#[test]
fn an_unknown_path_of_the_hosts_port_gets_a_sentence() {
    let host = HOST.get();
    for path in ["/v3", "/predict", "/v2/models"] {
        assert!(host.http().get(path).expect(404).error().contains(path), "{path}");
    }
    assert_eq!(host.http().post("/metrics", b"").expect(405).header("allow"), Some("GET,HEAD"));
}

#[test]
fn metrics_count_what_the_model_did() {
    // Alone, so that the numbers are known.
    let host = TestHost::serve(&[&fixture_model("sum")], &[]);
    let labels = r#"{model="sum",version="1"}"#;
    let counted = |name: &str| host.metric(&format!("{name}{labels}"));
    let both = json!({"inputs": [tensor("a", &[[0.0; 3], [1.0; 3]]), tensor("b", &[[0.0; 3], [1.0; 3]])]});
    for _ in 0..3 {
        infer(host.http(), "sum", &both).expect(200);
    }
    infer(host.http(), "sum", &json!({"inputs": [tensor("a", &[[0.0; 3]])]})).expect(400);
    assert_eq!(counted("nv_inference_request_success"), 3.0);
    assert_eq!(counted("nv_inference_count"), 6.0, "elements: three requests of two rows");
    assert_eq!(counted("nv_inference_exec_count"), 3.0);
    assert!(counted("nv_inference_compute_infer_duration_us") > 0.0);
    let metrics = host.http().get("/metrics").expect(200);
    assert!(metrics.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    assert!(metrics.text().ends_with("# EOF\n"));
}

#[test]
fn the_dashboard_lists_models_and_services() {
    let host = TestHost::serve(&[&example("digits"), &fixture_model("sum")], &[]);
    let page = host.http().get("/").expect(200);
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    let html = page.text();
    for word in ["<h2>digits</h2>", "<h2>sum</h2>", "/v2/models/sum", "difference", "/metrics"] {
        assert!(html.contains(word), "{word}:\n{html}");
    }
    assert!(html.contains(&format!("http://{}", host.service("digits").0)), "{html}");
    assert!(!html.contains("https://"), "an edge box has no way out:\n{html}");
}

#[test]
fn the_dashboards_example_works_as_pasted() {
    let host = HOST.get();
    let html = host.http().get("/").expect(200).text();
    let examples: Vec<_> = html.split("<pre>").skip(1).filter_map(|rest| rest.split("</pre>").next()).collect();
    let line = examples.iter().find(|line| line.contains("/v2/models/sum/infer")).expect("an example of sum");
    let line = line.replace("&quot;", "\"").replace("&#39;", "'").replace("&amp;", "&");
    let body = line.split_once("-d '").unwrap().1.trim_end_matches('\'');
    let answer = host.http().post("/v2/models/sum/infer", body.as_bytes()).expect(200).json();
    assert_eq!(output(&answer, "sum")["data"], json!([0.0, 0.0, 0.0]));
}

#[test]
fn many_ask_at_once_and_each_gets_its_own() {
    let host = HOST.get();
    std::thread::scope(|scope| {
        for caller in 0..16_u8 {
            let http = host.http();
            scope.spawn(move || {
                for call in 0..10_u8 {
                    let value = f64::from(caller) + f64::from(call) / 16.0;
                    let request = json!({"inputs": [tensor("a", &[[value; 3]]), tensor("b", &[[1.0; 3]])]});
                    let answer = infer(http, "sum", &request).expect(200).json();
                    assert_eq!(output(&answer, "sum")["data"], json!([value + 1.0, value + 1.0, value + 1.0]));
                }
            });
        }
    });
}

fn tensor(name: &str, rows: &[[f64; 3]]) -> Value {
    json!({"name": name, "shape": [rows.len(), 3], "datatype": "FP32", "data": rows.concat()})
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[track_caller]
fn infer(http: Client, model: &str, request: &Value) -> Answer {
    http.post_as(&format!("/v2/models/{model}/infer"), "application/json", request.to_string().as_bytes())
}

#[track_caller]
fn output<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let outputs = answer["outputs"].as_array().unwrap();
    outputs.iter().find(|output| output["name"] == name).unwrap_or_else(|| panic!("no output {name}: {answer}"))
}
