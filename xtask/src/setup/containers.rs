//! What starts real containers: podman for whole ones, runc for those with a control group of our choice.

use super::apt;
use anyhow::Result;

pub(super) fn ensure() -> Result<()> {
    apt::install(
        &["podman", "runc", "buildah"],
        "to run Node.js in containers for the tests of a whole fleet",
    )
}
