//! The same environment, whichever of its data volumes is in use.

use crate::desired::{self, Desired};
use crate::parity::Side;
use crate::state::{Observed, Resource, State};
use crate::value::ResourceKind;

/// A side whose data volumes go by the same name, whichever of them is in use: how often something was restored is no
/// property of what runs.
pub(super) struct Numberless {
    want: Desired,
    have: Observed,
}

impl Numberless {
    pub(super) fn side(&self) -> Side<'_> {
        Side { want: &self.want, have: &self.have }
    }
}

impl Side<'_> {
    pub(super) fn numberless(self) -> Numberless {
        let numbered = |volume: &str| desired::generation(volume).map(|(service, number)| (service.to_owned(), number));
        let in_use = |volume: &str| {
            numbered(volume)
                .is_none_or(|(service, number)| self.want.generations.get(&service).copied().unwrap_or(1) == number)
        };
        let plain = |volume: &str| match numbered(volume) {
            Some((service, number)) if number > 1 && in_use(volume) => format!("{service}.data"),
            _ => volume.to_owned(),
        };
        let state = |state: &State| {
            let mut plainly = State::default();
            for (id, resource) in &state.resources {
                let mut id = id.clone();
                if id.kind == ResourceKind::Volume {
                    if !in_use(&id.name) {
                        continue;
                    }
                    id.name = plain(&id.name);
                }
                let mut resource = resource.clone();
                if let Resource::Container(container) = &mut resource {
                    let mounts = std::mem::take(&mut container.mounts);
                    container.mounts = mounts
                        .into_iter()
                        .map(|(path, mut mount)| {
                            let path = path.strip_prefix("/d/").map_or(path.clone(), |of| format!("/d/{}", plain(of)));
                            mount.volume = plain(&mount.volume);
                            (path, mount)
                        })
                        .collect();
                }
                plainly.resources.insert(id, resource);
            }
            plainly
        };
        let want = Desired { state: state(&self.want.state), ..self.want.clone() };
        let have = Observed { state: state(&self.have.state), ..self.have.clone() };
        Numberless { want, have }
    }
}
