//! Certificates of the settings, read once when the exporter is set up.

use std::{fs, io::Read as _, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::{
    config::{Connection, FileSetting},
    error::SetupError,
};

/// Far above any bundle of authorities (the system's own is 0.2 MB), far below what would hurt.
const LONGEST_PEM: u64 = 8 << 20;

/// The contents of the PEM files, checked.
#[derive(Default)]
pub(super) struct Material {
    pub(super) authorities: Option<Vec<u8>>,
    /// Certificate chain and key.
    pub(super) identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl Material {
    /// # Errors
    /// [`SetupError::Unreadable`] and [`SetupError::NotPem`].
    pub(super) fn read(config: &Connection) -> Result<Self, SetupError> {
        let authorities = config.certificate.as_ref().map(certificates).transpose()?;
        let identity = match (&config.client_certificate, &config.client_key) {
            (Some(certificate), Some(key)) => Some((certificates(certificate)?, private_key(key)?)),
            _ => None,
        };
        Ok(Self { authorities, identity })
    }

    /// For HTTP. The provider is named, because a process-wide default would be a decision of `main`.
    ///
    /// # Errors
    /// [`SetupError::NoRoots`] and [`SetupError::Tls`].
    pub(super) fn client_config(&self) -> Result<ClientConfig, SetupError> {
        let mut roots = RootCertStore::empty();
        match &self.authorities {
            Some(pem) => {
                roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).flatten());
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if roots.is_empty() {
            return Err(SetupError::NoRoots);
        }
        self.client_config_trusting(roots)
    }

    /// # Errors
    /// [`SetupError::Tls`].
    pub(super) fn client_config_trusting(&self, roots: RootCertStore) -> Result<ClientConfig, SetupError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(SetupError::Tls)?
            .with_root_certificates(roots);
        match &self.identity {
            None => Ok(builder.with_no_client_auth()),
            Some((chain, key)) => {
                let chain = CertificateDer::pem_slice_iter(chain).flatten().collect();
                // Was parsed once by `private_key`.
                let key = PrivateKeyDer::from_pem_slice(key)
                    .map_err(|error| SetupError::Tls(rustls::Error::General(error.to_string())))?;
                builder.with_client_auth_cert(chain, key).map_err(SetupError::Tls)
            }
        }
    }
}

fn read(setting: &FileSetting) -> Result<Vec<u8>, SetupError> {
    let unreadable =
        |source| SetupError::Unreadable { from: setting.from, path: setting.path.clone(), source };
    let file = fs::File::open(&setting.path).map_err(unreadable)?;
    let mut pem = Vec::new();
    file.take(LONGEST_PEM).read_to_end(&mut pem).map_err(unreadable)?;
    Ok(pem)
}

fn not_pem(setting: &FileSetting, expected: &'static str) -> SetupError {
    SetupError::NotPem { from: setting.from, path: setting.path.clone(), expected }
}

fn certificates(setting: &FileSetting) -> Result<Vec<u8>, SetupError> {
    let pem = read(setting)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(pem),
        _ => Err(not_pem(setting, "certificate")),
    }
}

fn private_key(setting: &FileSetting) -> Result<Vec<u8>, SetupError> {
    let pem = read(setting)?;
    PrivateKeyDer::from_pem_slice(&pem).or(Err(not_pem(setting, "private key")))?;
    Ok(pem)
}
