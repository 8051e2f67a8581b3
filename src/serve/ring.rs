//! The last decisions, newest first, for `why`, `/gpurouter/api/decisions` and whoever asks what happened.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::record::RequestRecord;

/// Records kept: the last hours of a household, a few hundred KiB.
const KEPT: usize = 512;

/// The last records.
#[derive(Debug, Default)]
pub(super) struct Ring {
    records: Mutex<VecDeque<Arc<RequestRecord>>>,
}

impl Ring {
    /// Adds the newest, dropping the oldest beyond the limit.
    pub(super) fn push(&self, record: Arc<RequestRecord>) {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if records.len() == KEPT {
            records.pop_back();
        }
        records.push_front(record);
    }

    /// The newest `limit` records.
    pub(super) fn newest(&self, limit: usize) -> Vec<Arc<RequestRecord>> {
        self.records
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .take(limit)
            .map(Arc::clone)
            .collect()
    }

    /// The record with that id.
    pub(super) fn find(&self, id: &str) -> Option<Arc<RequestRecord>> {
        self.records
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .find(|record| record.id == id)
            .map(Arc::clone)
    }
}
