//! The sites as a plan changes them, step by step.

use std::sync::Arc;

use crate::cluster::fit::without;
use crate::cluster::{Knowledge, LoadedModel, ModelName, Room, Site};

/// The date of a model that stays, in the form of the nodes.
const FOR_EVER: &str = "9999-12-31T23:59:59Z";

/// The sites after the changes so far.
pub(super) struct Ground {
    sites: Vec<Site>,
}

impl Ground {
    pub(super) fn new(sites: &[Site]) -> Self {
        Self {
            sites: sites.to_vec(),
        }
    }

    pub(super) fn sites(&self) -> &[Site] {
        &self.sites
    }

    pub(super) fn site(&self, at: usize) -> Option<&Site> {
        self.sites.get(at)
    }

    /// The model stays now.
    pub(super) fn pin(&mut self, at: usize, name: &ModelName) {
        if let Some(node) = self.sites.get_mut(at).and_then(|site| site.node.as_mut()) {
            let node = Arc::make_mut(node);
            let digest = node.loaded(name).and_then(|loaded| loaded.digest.clone());
            for loaded in &mut node.loaded {
                if loaded.name == *name || (digest.is_some() && loaded.digest == digest) {
                    loaded.expires_at = Some(FOR_EVER.to_owned());
                }
            }
        }
    }

    /// The model is loaded; `needs`: bytes by index of the GPU.
    pub(super) fn load(&mut self, at: usize, name: &ModelName, needs: &[(u32, u64)]) {
        let Some(site) = self.sites.get_mut(at) else {
            return;
        };
        for room in &mut site.rooms {
            let need = needs.iter().find(|(index, _)| *index == room.index);
            if let Some((_, bytes)) = need {
                room.loaded_bytes = room.loaded_bytes.saturating_add(*bytes);
                room.driver_free_bytes = room
                    .driver_free_bytes
                    .map(|free| free.saturating_sub(*bytes));
            }
        }
        let bytes = needs
            .iter()
            .fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
        if let Some(node) = &mut site.node {
            let node = Arc::make_mut(node);
            let digest = node.model(name).and_then(|model| model.digest.clone());
            node.loaded.push(LoadedModel {
                name: name.clone(),
                digest,
                // In main memory alone it has a size all the same.
                size_bytes: Some(bytes.max(1)),
                vram_bytes: Some(bytes),
                context: None,
                expires_at: Some(FOR_EVER.to_owned()),
                listing: None,
            });
        }
        self.share(at);
    }

    /// The model is no longer in memory.
    pub(super) fn unload(&mut self, at: usize, name: &ModelName) {
        if let Some(site) = self.sites.get_mut(at) {
            *site = without_model(site, name);
            self.share(at);
        }
    }

    /// What changed on the GPUs of a site changed for the others that use them too.
    fn share(&mut self, at: usize) {
        let Some(changed) = self.sites.get(at).cloned() else {
            return;
        };
        for (other, site) in self.sites.iter_mut().enumerate() {
            if other == at {
                continue;
            }
            for room in &mut site.rooms {
                let same = changed
                    .rooms
                    .iter()
                    .find(|of| same_gpu((changed.knowledge, of), (site.knowledge, room)));
                if let Some(same) = same {
                    room.loaded_bytes = same.loaded_bytes;
                    room.driver_free_bytes = same.driver_free_bytes;
                }
            }
        }
    }
}

/// Whether two sites mean one GPU: by UUID, else by its position on this machine.
fn same_gpu(a: (Knowledge, &Room), b: (Knowledge, &Room)) -> bool {
    match (&a.1.uuid, &b.1.uuid) {
        (Some(a), Some(b)) => a == b,
        _ => a.0 == Knowledge::Driver && b.0 == Knowledge::Driver && a.1.index == b.1.index,
    }
}

/// The site after a model has gone from it. [`Room::measured`] must follow.
pub(super) fn without_model(site: &Site, name: &ModelName) -> Site {
    let mut site = site.clone();
    let Some(node) = &mut site.node else {
        return site;
    };
    let Some(gone) = node.loaded(name).cloned() else {
        return site;
    };
    site.rooms = without(&site.rooms, gone.vram_bytes.unwrap_or(0));
    site.untold.retain(|untold| *untold != gone.name);
    let node = Arc::make_mut(node);
    let first = node
        .loaded
        .iter()
        .position(|loaded| loaded.name == gone.name);
    if let Some(first) = first {
        node.loaded.remove(first);
    }
    site
}
