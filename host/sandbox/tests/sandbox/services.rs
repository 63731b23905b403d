//! Services: calls, what they cost the container, and what holds them back.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use http_body_util::BodyExt;
use wharf_sandbox::service::Service;

use crate::guests::{guest, request, service, text};

#[tokio::test]
async fn calls_are_metered() {
    let service = Service::new(service(text!("answer")), guest(), 1);
    service.check().await.unwrap();
    let idle = service.usage();
    assert_eq!((idle.instances, idle.memory), (0, 0));
    let response = service.call(request(), None).await.unwrap();
    assert_eq!(response.status(), 204);
    response.into_body().collect().await.unwrap();
    let usage = service.usage();
    assert!(usage.cpu > idle.cpu && usage.memory_peak >= 1 << 16, "{usage:?}");
    assert_eq!((usage.instances, usage.memory, usage.model), (0, 0, Duration::ZERO));
}

#[tokio::test]
async fn an_idle_instance_is_still_held() {
    let service = Service::new(service(text!("answer")), guest(), 10);
    for _ in 0..3 {
        let response = service.call(request(), None).await.unwrap();
        response.into_body().collect().await.unwrap();
        assert_eq!(service.usage().instances, 1);
    }
    assert!(service.usage().memory >= 1 << 16);
}

#[tokio::test]
async fn calls_wait_while_the_container_is_paused() {
    let service = Service::new(service(text!("answer")), guest(), 1);
    service.governor().pause();
    let mut call = pin!(service.call(request(), None));
    let first = poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await;
    assert!(first.is_pending());
    assert_eq!(service.usage().instances, 0, "a waiting call holds no instance");
    service.governor().unpause();
    assert_eq!(call.await.unwrap().status(), 204);
}
