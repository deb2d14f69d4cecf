//! Standard tools find their way: gRPC health, server reflection, and clear words for what is not there yet.

use proto::mediad::v1::{self as pb, files_client::FilesClient};
use tonic::{Code, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::support::{Daemon, error};

#[tokio::test]
async fn and_what_is_not_carried_out() {
    let daemon = Daemon::start(&[]);
    let url = format!("http://{}", daemon.control);
    let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
    let mut health = HealthClient::new(channel.clone());
    for service in ["mediad.v1.Media", "mediad.v1.Host", "mediad.v1.Files", ""] {
        let reply = health
            .check(HealthCheckRequest {
                service: service.into(),
            })
            .await
            .unwrap()
            .into_inner();
        assert_eq!(reply.status(), ServingStatus::Serving, "{service}");
    }

    let request = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut reflection = ServerReflectionClient::new(channel.clone());
    let mut replies = reflection
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        replies.message().await.unwrap().unwrap().message_response
    else {
        panic!("a list of services")
    };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    for service in [
        "mediad.v1.Media",
        "mediad.v1.Host",
        "mediad.v1.Files",
        "grpc.health.v1.Health",
    ] {
        assert!(names.contains(&service), "{service} in {names:?}");
    }

    let refused = FilesClient::new(channel)
        .list(pb::FileListRequest::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(
        error(&refused).message.contains("FILE_KIND_PROMPT"),
        "{}",
        refused.message()
    );
    let tapped = daemon.media().await.tap(tokio_stream::empty()).await.unwrap_err();
    assert!(
        tapped.code() == Code::InvalidArgument && tapped.message().contains("open is missing"),
        "{}",
        tapped.message()
    );
}
