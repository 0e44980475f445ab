//! The record of an attachment.

use super::{ATTACHMENTS, Locked, Store, failed, read, remove, replace, scratch_file};
use crate::error::{Code, Failure};
use crate::nft::Entry;
use crate::request::AttachmentId;
use insula_cni::Cidr;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::PathBuf;

/// What an attachment has, or will have in a moment: whatever of it the kernel has when the plugin
/// is killed, DEL finds it here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Record {
    /// Addresses that were given out for it; none if another plugin gave them.
    pub(crate) addresses: Vec<Cidr>,
    /// Links of the host to be removed: the host's end of the pair, and an ifb.
    pub(crate) links: Vec<String>,
    /// Entries of the packet filter.
    pub(crate) entries: Vec<Entry>,
}

// === impl Store ===

impl Store {
    fn record_file(&self, id: &AttachmentId) -> PathBuf {
        // '@' is in no container id, so the first one ends it.
        let name = format!("{}@{}", id.container(), id.interface());
        self.dir.join(ATTACHMENTS).join(name)
    }

    /// The record of an attachment, if it has one.
    pub(crate) fn record(&self, id: &AttachmentId) -> Result<Option<Record>, Failure> {
        let path = self.record_file(id);
        let Some(text) = read(&path)? else {
            return Ok(None);
        };
        // A power cut may have left it empty. Then there is nothing in the kernel either.
        if text.bytes().all(|byte| byte == 0) {
            return Ok(None);
        }
        serde_json::from_str(&text).map(Some).map_err(|error| {
            Failure::new(
                Code::Decoding,
                format!("the record {} cannot be read", path.display()),
                error.to_string(),
            )
        })
    }

    /// The attachments that have a record.
    pub(super) fn recorded(&self) -> Result<Vec<AttachmentId>, Failure> {
        let dir = self.dir.join(ATTACHMENTS);
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| failed("read", &dir, &error))?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry
                .map_err(|error| failed("read", &dir, &error))?
                .file_name();
            // A file that was not renamed yet begins with a dot: its maker was killed.
            let name = name.to_str().map(|name| name.trim_start_matches('.'));
            let parts = name.and_then(|name| name.split_once('@'));
            if let Some((container, interface)) = parts {
                ids.extend(AttachmentId::parse(container, interface));
            }
        }
        Ok(ids)
    }
}

// === impl Locked ===

impl Locked<'_> {
    /// Writes the record of an attachment, or writes it anew.
    pub(crate) fn write_record(&self, id: &AttachmentId, record: &Record) -> Result<(), Failure> {
        let path = self.store.record_file(id);
        let text = serde_json::to_vec(record).map_err(|error| {
            Failure::new(
                Code::Decoding,
                "a record cannot be written",
                error.to_string(),
            )
        })?;
        replace(&path, &text)
    }

    /// Removes the record of an attachment, and what a killed plugin may have left of it.
    pub(crate) fn remove_record(&self, id: &AttachmentId) -> Result<(), Failure> {
        let path = self.store.record_file(id);
        remove(&path)?;
        remove(&scratch_file(&path))
    }
}
