//! The runtime itself.

use crate::convert::text;
use crate::errors::Error;
use crate::service::{RUNTIME_NAME, RUNTIME_VERSION, Service};
use insula_cri_api::v1::{
    CgroupDriver, LinuxRuntimeConfiguration, RuntimeCondition, RuntimeConfigRequest,
    RuntimeConfigResponse, RuntimeFeatures, RuntimeHandler, RuntimeHandlerFeatures, RuntimeStatus,
    StatusRequest, StatusResponse, UpdateRuntimeConfigRequest, UpdateRuntimeConfigResponse,
    VersionRequest, VersionResponse,
};
use insula_pods::Condition;
use std::collections::BTreeMap;

/// Version of the interface's own numbering, which has not moved since 2016.
const KUBELET_API_VERSION: &str = "0.1.0";
/// Version of the package that is served.
const RUNTIME_API_VERSION: &str = "v1";

/// The client's own version does not matter: there is one interface.
pub(super) fn version(_: &VersionRequest) -> VersionResponse {
    VersionResponse {
        version: KUBELET_API_VERSION.to_owned(),
        runtime_name: RUNTIME_NAME.to_owned(),
        runtime_version: RUNTIME_VERSION.to_owned(),
        runtime_api_version: RUNTIME_API_VERSION.to_owned(),
    }
}

/// kubelet asks every five seconds and sets the node's conditions and features
/// by the answer.
pub(super) async fn status(
    service: &Service,
    asked: StatusRequest,
) -> Result<StatusResponse, Error> {
    let status = service.pods().status().await;
    Ok(StatusResponse {
        status: Some(RuntimeStatus {
            conditions: vec![
                condition("RuntimeReady", "RuntimeNotReady", status.runtime),
                condition("NetworkReady", "NetworkPluginNotReady", status.network),
            ],
        }),
        info: if asked.verbose {
            info(service).await?
        } else {
            BTreeMap::new()
        },
        runtime_handlers: service
            .node()
            .handlers
            .iter()
            .map(|handler| RuntimeHandler {
                name: handler.name.clone(),
                features: Some(RuntimeHandlerFeatures {
                    recursive_read_only_mounts: handler.recursive_read_only_mounts,
                    user_namespaces: handler.user_namespaces,
                }),
            })
            .collect(),
        features: Some(RuntimeFeatures {
            supplemental_groups_policy: true,
            user_namespaces_host_network: service.node().user_namespaces_host_network,
            mount_options: true,
        }),
    })
}

/// Since 1.37 a kubelet does not start without this answer.
pub(super) fn runtime_config(service: &Service, _: RuntimeConfigRequest) -> RuntimeConfigResponse {
    let driver = match service.pods().cgroup_driver() {
        insula_pods::CgroupDriver::Systemd => CgroupDriver::Systemd,
        insula_pods::CgroupDriver::Cgroupfs | insula_pods::CgroupDriver::Auto => {
            CgroupDriver::Cgroupfs
        }
    };
    RuntimeConfigResponse {
        linux: Some(LinuxRuntimeConfiguration {
            cgroup_driver: driver as i32,
        }),
    }
}

/// An empty range says nothing new.
pub(super) async fn update_runtime_config(
    service: &Service,
    asked: UpdateRuntimeConfigRequest,
) -> Result<UpdateRuntimeConfigResponse, Error> {
    let cidr = asked
        .runtime_config
        .and_then(|config| config.network_config)
        .map(|network| network.pod_cidr)
        .unwrap_or_default();
    let cidr = text(cidr, "runtime_config.network_config.pod_cidr", 1024)?;
    if !cidr.is_empty() {
        service.pods().set_pod_cidr(&cidr).await?;
    }
    Ok(UpdateRuntimeConfigResponse {})
}

/// A condition that does not hold always has a reason.
fn condition(kind: &str, default_reason: &str, state: Condition) -> RuntimeCondition {
    let reason = if !state.ready && state.reason.is_empty() {
        default_reason.to_owned()
    } else {
        state.reason
    };
    RuntimeCondition {
        r#type: kind.to_owned(),
        status: state.ready,
        reason,
        message: state.message,
    }
}

async fn info(service: &Service) -> Result<BTreeMap<String, String>, Error> {
    let inner = service.inner.clone();
    let looking = move || ((inner.node.doctor)(), inner.sessions.certificate());
    let (doctor, certificate) = tokio::task::spawn_blocking(looking)
        .await
        .map_err(|error| Error::Internal(format!("looking at this host: {error}")))?;
    let mut config = service.node().config.clone();
    if let Some(config) = config.as_object_mut() {
        // The names under which other runtimes tell these, too.
        let path = |path: &std::path::Path| path.to_string_lossy().into_owned().into();
        config.insert("stateDir".to_owned(), path(&service.node().state));
        config.insert("rootDir".to_owned(), path(&service.node().root));
    }
    // Who may ask this may believe the answer: it comes over the daemon's own socket.
    let streaming = serde_json::json!({
        "address": service.sessions().base(),
        "certificate": certificate.map(|certificate| certificate.to_string()),
    });
    Ok(BTreeMap::from([
        ("config".to_owned(), config.to_string()),
        ("doctor".to_owned(), doctor.to_string()),
        ("streaming".to_owned(), streaming.to_string()),
    ]))
}
