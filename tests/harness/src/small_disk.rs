//! A disk that is soon full: a volume in memory, of so many bytes and no more.

use std::ffi::OsString;

use anyhow::Result;

use crate::docker::docker;
use crate::mysql_image::{MysqlImage, user};
use crate::run;

/// A volume, and a container that does nothing but hold it: without one, what is on it would go whenever its server ends. Both are removed
/// when dropped.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    volume: String,
    holder: Option<String>,
}

impl SmallDisk {
    pub(crate) async fn make(bytes: u64) -> Result<SmallDisk> {
        let image = MysqlImage::get().await?;
        let (uid, gid) = user();
        let label = format!("--label={}={}", run::LABEL, run::id());
        let size = format!("--opt=o=size={bytes},uid={uid},gid={gid},mode=0700");
        let volume = docker([
            "volume",
            "create",
            &label,
            "--opt=type=tmpfs",
            "--opt=device=tmpfs",
            &size,
        ])
        .await?;
        let mut disk = SmallDisk {
            volume,
            holder: None,
        };
        let hold = format!("--volume={}:/disk", disk.volume);
        let arguments = [
            "run",
            "--detach",
            &label,
            "--network=none",
            "--entrypoint=sleep",
            &hold,
            image.name(),
            "infinity",
        ];
        disk.holder = Some(docker(arguments).await?);
        Ok(disk)
    }

    /// `docker run`'s option.
    pub(crate) fn mount(&self, at: &str) -> OsString {
        format!("--volume={}:{at}", self.volume).into()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let remove = |arguments: &[&str]| {
            let _ = std::process::Command::new("docker")
                .args(arguments)
                .output();
        };
        if let Some(holder) = &self.holder {
            remove(&["rm", "--force", holder]);
        }
        remove(&["volume", "rm", "--force", &self.volume]);
    }
}
