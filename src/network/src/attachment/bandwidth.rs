//! A pod's bandwidth, from its annotations.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::quantity;
use crate::error::{Error, Result};

const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
const EGRESS: &str = "kubernetes.io/egress-bandwidth";

/// The largest burst the `bandwidth` plugin takes; with less, high rates are never reached.
const BURST: u64 = u32::MAX as u64;

/// Rates in bits per second and bursts in bits, as the `bandwidth` plugin wants them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bandwidth {
    /// Towards the pod, bits per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress_rate: Option<u64>,
    /// Towards the pod, bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress_burst: Option<u64>,
    /// From the pod, bits per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_rate: Option<u64>,
    /// From the pod, bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_burst: Option<u64>,
}

impl Bandwidth {
    /// Reads `kubernetes.io/ingress-bandwidth` and `kubernetes.io/egress-bandwidth`, Kubernetes
    /// quantities from 1k to 1P; `None` if the pod has neither.
    pub fn from_annotations(annotations: &BTreeMap<String, String>) -> Result<Option<Self>> {
        let ingress_rate = rate(annotations, INGRESS)?;
        let egress_rate = rate(annotations, EGRESS)?;
        if ingress_rate.is_none() && egress_rate.is_none() {
            return Ok(None);
        }
        Ok(Some(Self {
            ingress_rate,
            ingress_burst: ingress_rate.map(|_| BURST),
            egress_rate,
            egress_burst: egress_rate.map(|_| BURST),
        }))
    }
}

fn rate(annotations: &BTreeMap<String, String>, key: &str) -> Result<Option<u64>> {
    let Some(text) = annotations.get(key) else {
        return Ok(None);
    };
    match quantity::parse(text) {
        Some(rate) if (1_000..=1_000_000_000_000_000).contains(&rate) => Ok(Some(rate)),
        _ => Err(Error::InvalidAttachment(format!(
            "annotation {key} is {text:?}; it must be a quantity of bits per second between 1k and 1P"
        ))),
    }
}
