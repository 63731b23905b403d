//! The whole router against models that need no ONNX Runtime.

use std::time::Instant;

use axum::body::Body;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use wharf_tensor::DType;
use wharf_tensor::infer::{
    Infer, InferError, InferErrorKind, InferFuture, InferRequest, Outputs, Signature, TensorSpec, TensorView,
};

use super::*;
use crate::service::Service;

/// What a fake model does with its inputs `x` (FP32), `s` (BYTES) and `h` (FP16).
enum Behaviour {
    /// Outputs are the inputs that were given, under their own names.
    Identity,
    Fails(InferErrorKind),
    /// Holds the token for as long as it is not cancelled.
    NeverAnswers(Arc<()>),
}

struct Fake {
    signature: Signature,
    behaviour: Behaviour,
}

impl Fake {
    fn model(behaviour: Behaviour, tensors: &[(&str, DType)]) -> Arc<dyn Infer> {
        let spec = |(name, dtype): &(&str, DType)| TensorSpec {
            name: (*name).into(),
            dtype: *dtype,
            shape: vec![None, Some(2)],
        };
        let specs: Vec<TensorSpec> = tensors.iter().map(spec).collect();
        let signature = Signature { platform: "onnx_onnxv1", inputs: specs.clone(), outputs: specs };
        Arc::new(Fake { signature, behaviour })
    }
}

impl Infer for Fake {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn infer(&self, request: InferRequest) -> InferFuture {
        let remaining = request.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        assert!(remaining.is_some_and(|remaining| remaining <= Duration::from_secs(30)));
        match self.behaviour {
            Behaviour::Identity => {
                let outputs: Outputs = request.inputs.into_iter().map(|(name, tensor)| (name.into(), tensor)).collect();
                Box::pin(async { Ok(outputs) })
            }
            Behaviour::Fails(kind) => Box::pin(async move { Err(InferError::new(kind, "as asked")) }),
            Behaviour::NeverAnswers(ref token) => {
                let token = token.clone();
                Box::pin(async move {
                    let _held = token;
                    std::future::pending().await
                })
            }
        }
    }

    fn infer_blocking(&self, _: &[TensorView<'_>], _: Option<Instant>) -> Result<Outputs, InferError> {
        Err(InferError::new(InferErrorKind::Internal, "the protocol never blocks"))
    }
}

fn bare(name: &str, model: Arc<dyn Infer>) -> Service {
    Service { name: name.into(), http: None, models: [(name.to_owned(), model)].into(), placements: Default::default() }
}

fn services() -> ServiceTable {
    let services = ServiceTable::default();
    services.publish(bare("echo", Fake::model(Behaviour::Identity, &[("x", DType::Fp32), ("s", DType::Bytes)])));
    services.publish(bare("half", Fake::model(Behaviour::Identity, &[("h", DType::Fp16)])));
    services.publish(bare("stuck", Fake::model(Behaviour::NeverAnswers(Arc::default()), &[("x", DType::Fp32)])));
    let one = || Fake::model(Behaviour::Identity, &[("x", DType::Fp32)]);
    let models = [("left".to_owned(), one()), ("ready".to_owned(), one())].into();
    services.publish(Service { name: "eyes".into(), http: None, models, placements: Default::default() });
    services
}

async fn call_with(
    options: Options,
    services: ServiceTable,
    request: http::Request<Body>,
) -> (StatusCode, HeaderMap, Bytes) {
    let oip = Arc::new(Oip { services, options });
    let (parts, body) = dispatch(State(oip), request).await.into_parts();
    (parts.status, parts.headers, body.collect().await.unwrap().to_bytes())
}

async fn call(method: &str, path: &str, body: impl Into<Body>) -> (StatusCode, HeaderMap, Value) {
    let request = http::Request::builder().method(method).uri(path).body(body.into()).unwrap();
    let (status, headers, body) = call_with(Options::default(), services(), request).await;
    assert_eq!(headers[CONTENT_TYPE], "application/json");
    (status, headers, serde_json::from_slice(&body).unwrap())
}

fn infer_x(data: Value) -> String {
    json!({"id": "7", "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": data}],
           "outputs": [{"name": "x"}]})
    .to_string()
}

#[tokio::test]
async fn the_server_describes_itself() {
    let (status, _, body) = call("GET", "/v2", "").await;
    assert_eq!(status, StatusCode::OK);
    let expected = json!({"name": "wharf", "version": env!("CARGO_PKG_VERSION"), "extensions": ["binary_tensor_data"]});
    assert_eq!(body, expected);
    assert_eq!(call("GET", "/v2/health/live", "").await.2, json!({"live": true}));
    assert_eq!(call("GET", "/v2/health/ready", "").await.2, json!({"ready": true}));
}

#[tokio::test]
async fn models_describe_themselves() {
    let (status, _, body) = call("GET", "/v2/models/echo/versions/1", "").await;
    assert_eq!(status, StatusCode::OK);
    let tensors = json!([{"name": "x", "datatype": "FP32", "shape": [-1, 2]},
                         {"name": "s", "datatype": "BYTES", "shape": [-1, 2]}]);
    let expected = json!({"name": "echo", "versions": ["1"], "platform": "onnx_onnxv1",
                          "inputs": tensors, "outputs": tensors});
    assert_eq!(body, expected);
    for name in ["left", "eyes/left", "eyes%2Fleft", "eyes%2Fready"] {
        assert_eq!(call("GET", &format!("/v2/models/{name}"), "").await.0, StatusCode::OK, "{name}");
        assert_eq!(call("GET", &format!("/v2/models/{name}/ready"), "").await.2["ready"], true, "{name}");
    }
}

#[tokio::test]
async fn a_model_answers_json() {
    let (status, _, body) = call("POST", "/v2/models/echo/infer", infer_x(json!([[1.5, -2]]))).await;
    let expected = json!({"model_name": "echo", "model_version": "1", "id": "7",
        "outputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.5, -2.0]}]});
    assert_eq!((status, body), (StatusCode::OK, expected));
    let (_, _, flat) = call("POST", "/v2/models/eyes/left/versions/1/infer", infer_x(json!([1.5, -2]))).await;
    assert_eq!(flat["outputs"][0]["data"], json!([1.5, -2.0]));
}

#[tokio::test]
async fn outputs_come_in_the_order_asked() {
    let inputs = json!([{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]},
                        {"name": "s", "shape": [1], "datatype": "BYTES", "data": ["é"]}]);
    let names = |body: Value| -> Vec<String> {
        let outputs = body["outputs"].as_array().unwrap().iter();
        outputs.map(|output| output["name"].as_str().unwrap().to_owned()).collect()
    };
    let ask = |outputs: Value| json!({"inputs": inputs, "outputs": outputs}).to_string();
    let (_, _, body) = call("POST", "/v2/models/echo/infer", ask(json!([{"name": "s"}, {"name": "x"}]))).await;
    assert_eq!(names(body), ["s", "x"]);
    let (_, _, body) = call("POST", "/v2/models/echo/infer", ask(json!([{"name": "s"}]))).await;
    assert_eq!(names(body), ["s"]);
    let (_, _, body) = call("POST", "/v2/models/echo/infer", ask(json!(null))).await;
    assert_eq!(body.get("id"), None);
    assert_eq!(names(body), ["x", "s"]);
}

#[tokio::test]
async fn a_large_request_is_converted_off_the_reactor() {
    let count = 100_000;
    let body = json!({"inputs": [{"name": "x", "shape": [count], "datatype": "FP32", "data": vec![0.25; count]}],
                      "outputs": [{"name": "x"}]});
    let (status, _, body) = call("POST", "/v2/models/echo/infer", body.to_string()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["outputs"][0]["data"].as_array().unwrap().len(), count);
}

#[tokio::test]
async fn refusals_have_their_status_and_say_why() {
    let good = infer_x(json!([1, 2]));
    let cases = [
        (
            "GET",
            "/v2/models/nose",
            "",
            404,
            "unknown model \"nose\"; this host serves echo, eyes/left, eyes/ready, half, stuck",
        ),
        ("POST", "/v2/models/nose/infer", good.as_str(), 404, "unknown model"),
        ("GET", "/v2/models/nose/ready", "", 404, "unknown model"),
        ("GET", "/v2/models/echo/versions/2", "", 404, "has no version \"2\", only \"1\""),
        ("POST", "/v2/models/echo/versions/x/infer", good.as_str(), 404, "has no version"),
        ("GET", "/v2/health", "", 404, "no endpoint at /v2/health"),
        ("GET", "/v2/", "", 404, "no endpoint"),
        ("POST", "/v2/models/echo/infer", "", 400, "the body is empty"),
        ("POST", "/v2/models/echo/infer", "{", 400, "EOF"),
        ("POST", "/v2/models/echo/infer", r#"{"inputs":[],"outputs":[{"name":"z"}]}"#, 400, "unknown output \"z\""),
        ("POST", "/v2/models/half/infer", r#"{"inputs":[]}"#, 400, "FP16 data via JSON is not supported"),
    ];
    for (method, path, body, status, problem) in cases {
        let (seen, _, body) = call(method, path, body.to_owned()).await;
        let message = body["error"].as_str().unwrap();
        assert_eq!(seen.as_u16(), status, "{method} {path}: {message}");
        assert!(message.contains(problem), "{method} {path}: {message}");
        assert_eq!(body.as_object().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn the_wrong_method_is_told_the_right_one() {
    for (method, path, allow) in [
        ("GET", "/v2/models/echo/infer", "POST"),
        ("POST", "/v2/models/echo", "GET, HEAD"),
        ("DELETE", "/v2", "GET, HEAD"),
        ("PUT", "/v2/health/live", "GET, HEAD"),
    ] {
        let (status, headers, body) = call(method, path, "").await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(headers[ALLOW], allow);
        assert!(body["error"].as_str().unwrap().contains(method));
    }
}

#[tokio::test]
async fn a_models_failure_has_its_status() {
    for (kind, status) in [
        (InferErrorKind::InvalidArgument, 400),
        (InferErrorKind::NotFound, 404),
        (InferErrorKind::Unavailable, 503),
        (InferErrorKind::DeadlineExceeded, 504),
        (InferErrorKind::Cancelled, 400),
        (InferErrorKind::Internal, 500),
    ] {
        let services = ServiceTable::default();
        services.publish(bare("m", Fake::model(Behaviour::Fails(kind), &[("x", DType::Fp32)])));
        let request = http::Request::post("/v2/models/m/infer").body(infer_x(json!([1, 2])).into()).unwrap();
        let (seen, headers, body) = call_with(Options::default(), services, request).await;
        assert_eq!(seen.as_u16(), status, "{kind:?}");
        assert_eq!(body, r#"{"error":"as asked"}"#);
        assert_eq!(headers.contains_key(RETRY_AFTER), kind == InferErrorKind::Unavailable);
    }
}

#[tokio::test]
async fn the_deadline_is_kept_and_a_request_may_shorten_it() {
    let ask = |timeout: u64| {
        let body = json!({"inputs": [], "parameters": {"timeout": timeout}}).to_string();
        http::Request::post("/v2/models/stuck/infer").body(Body::from(body)).unwrap()
    };
    let (status, _, body) = call_with(Options::default(), services(), ask(1000)).await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(body, r#"{"error":"model \"stuck\" did not answer within 1 ms"}"#);
    let short = Options { deadline: Duration::from_millis(2), ..Options::default() };
    let (status, _, body) = call_with(short, services(), ask(u64::MAX)).await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(body, r#"{"error":"model \"stuck\" did not answer within 2 ms"}"#);
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_model() {
    let token = Arc::new(());
    let services = ServiceTable::default();
    services.publish(bare("m", Fake::model(Behaviour::NeverAnswers(token.clone()), &[("x", DType::Fp32)])));
    let oip = Arc::new(Oip { services, options: Options::default() });
    let request = http::Request::post("/v2/models/m/infer").body(infer_x(json!([1, 2])).into()).unwrap();
    let mut asked = Box::pin(dispatch(State(oip), request));
    let poll = asked.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
    assert!(poll.is_pending());
    let held = Arc::strong_count(&token);
    drop(asked);
    assert_eq!(Arc::strong_count(&token), held - 2, "one held by the running model, one by the table");
}

#[tokio::test]
async fn bodies_over_the_limit_or_of_a_slow_sender_are_refused() {
    let small = Options { max_body: 16, deadline: Duration::from_millis(5) };
    let post = || http::Request::post("/v2/models/echo/infer");
    let announced = post().header(CONTENT_LENGTH, "17").body(Body::empty()).unwrap();
    let streamed = post().body(Body::from(vec![b' '; 17])).unwrap();
    for request in [announced, streamed] {
        let (status, _, body) = call_with(small.clone(), services(), request).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(body, r#"{"error":"the body is larger than the limit of 16 bytes"}"#);
    }
    let (status, _, _) = call_with(small, services(), post().body(Body::new(SilentBody)).unwrap()).await;
    assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
}

#[tokio::test]
async fn a_compressed_body_is_refused() {
    let request = http::Request::post("/v2/models/echo/infer").header("content-encoding", "gzip");
    let (status, _, _) = call_with(Options::default(), services(), request.body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::NOT_IMPLEMENTED);
}

/// The body of a client that has stopped sending.
struct SilentBody;

impl http_body::Body for SilentBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Pending
    }
}

/// Over a real socket: what hyper and axum add must fit, and a refusal must leave the connection usable.
#[tokio::test]
async fn binary_requests_over_one_connection() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(axum::serve(listener, router(services(), Options::default())).into_future());
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut send = async |json_length: &str, body: Vec<u8>| {
        let request = http::Request::post("/v2/models/half/infer")
            .header("host", "localhost")
            .header("content-type", "application/octet-stream")
            .header("inference-header-content-length", json_length)
            .body(Body::from(body))
            .unwrap();
        client.ready().await.unwrap();
        let (parts, body) = client.send_request(request).await.unwrap().into_parts();
        (parts.status, parts.headers, body.collect().await.unwrap().to_bytes())
    };

    let json = r#"{"inputs":[{"name":"h","shape":[1,2],"datatype":"FP16","parameters":{"binary_data_size":4}}],"parameters":{"binary_data_output":true}}"#;
    let body = [json.as_bytes(), &[1, 2, 3, 4]].concat();
    for wrong in ["abc", "-1", "9999", "2"] {
        assert_eq!(send(wrong, body.clone()).await.0, StatusCode::BAD_REQUEST, "{wrong}");
    }
    // With the JSON's length, and as tensor bytes only.
    for (json_length, body) in [(json.len(), body), (0, vec![1, 2, 3, 4])] {
        let (status, headers, answer) = send(&json_length.to_string(), body).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(headers[CONTENT_TYPE], "application/octet-stream");
        assert_eq!(headers[CONTENT_LENGTH], answer.len().to_string());
        let head: usize = headers["inference-header-content-length"].to_str().unwrap().parse().unwrap();
        let (head, tail) = answer.split_at(head);
        assert_eq!(tail, [1, 2, 3, 4]);
        let head: Value = serde_json::from_slice(head).unwrap();
        let output = json!({"name": "h", "datatype": "FP16", "shape": [1, 2], "parameters": {"binary_data_size": 4}});
        assert_eq!(head["outputs"], json!([output]));
    }
    server.abort();
}
