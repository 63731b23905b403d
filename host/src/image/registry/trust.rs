//! Whose word is taken for who a registry is: the system's authorities, and those that people put into
//! `certs.d/<host[:port]>/` as they do for Docker. Blocking.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::error::{Error, ErrorKind, Result};

pub struct Trust {
    /// Folders like `certs.d`; one that does not exist trusts nobody.
    folders: Vec<PathBuf>,
    provider: Arc<CryptoProvider>,
    system: OnceLock<RootCertStore>,
}

/// What the folders hold for one registry.
#[derive(Default)]
struct Given {
    authorities: Vec<CertificateDer<'static>>,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl Trust {
    pub fn new(folders: Vec<PathBuf>) -> Trust {
        Trust { folders, provider: Arc::new(rustls::crypto::ring::default_provider()), system: OnceLock::new() }
    }

    /// `authority` is `host` or `host:port`, the name of the folder.
    pub fn config(&self, authority: &str) -> Result<ClientConfig> {
        let given = self.given(authority)?;
        let mut roots = self.system.get_or_init(system_roots).clone();
        for certificate in &given.authorities {
            roots.add(certificate.clone()).map_err(|error| unusable(authority).because(error))?;
        }
        // Without any root the verifier cannot be made; then every TLS connection is to fail, not this call.
        let verifier: Arc<dyn ServerCertVerifier> = if roots.is_empty() {
            Arc::new(Pinned { usual: None, certificates: Vec::new(), provider: self.provider.clone() })
        } else {
            let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
                .build()
                .map_err(|error| unusable(authority).because(error))?;
            Arc::new(Pinned { usual: Some(usual), certificates: given.authorities, provider: self.provider.clone() })
        };
        let builder = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(authority).because(error))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        match given.identity {
            Some((chain, key)) => {
                builder.with_client_auth_cert(chain, key).map_err(|error| unusable(authority).because(error))
            }
            None => Ok(builder.with_no_client_auth()),
        }
    }

    fn given(&self, authority: &str) -> Result<Given> {
        let mut given = Given::default();
        if authority.starts_with('.') || authority.contains(['/', '\\', '@']) {
            return Ok(given);
        }
        for folder in &self.folders {
            let Ok(entries) = fs::read_dir(folder.join(authority)) else { continue };
            let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            files.sort();
            for file in files {
                match file.extension().and_then(|extension| extension.to_str()) {
                    Some("crt") => given.authorities.extend(certificates(&file)?),
                    // Docker's names: NAME.cert is shown to the registry, NAME.key proves it is ours.
                    Some("cert") => {
                        let path = file.with_extension("key");
                        let key = PrivateKeyDer::from_pem_file(&path).map_err(|error| unreadable(&path, error))?;
                        given.identity = Some((certificates(&file)?, key));
                    }
                    _ => {}
                }
            }
        }
        Ok(given)
    }
}

fn system_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!("a certificate of the system is left out: {error}");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    roots
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let all = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let all = all.map_err(|error| unreadable(file, error))?;
    if all.is_empty() {
        let text = format!("{} holds no certificate; it must be in PEM form", file.display());
        return Err(Error::new(ErrorKind::Unmet, text));
    }
    Ok(all)
}

fn unreadable(file: &Path, error: rustls::pki_types::pem::Error) -> Error {
    Error::new(ErrorKind::Unmet, format!("cannot read {} as PEM", file.display())).because(error)
}

fn unusable(authority: &str) -> Error {
    Error::new(ErrorKind::Unmet, format!("the certificates given for {authority} in certs.d cannot be used"))
}

/// The usual rules, and one exception: a server may show the very certificate that lies in `certs.d`. Docker's
/// guides make such a certificate, which is its own authority and by the usual rules no server's.
#[derive(Debug)]
struct Pinned {
    usual: Option<Arc<WebPkiServerVerifier>>,
    certificates: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let usual = match &self.usual {
            Some(usual) => usual.verify_server_cert(shown, between, server, ocsp, now),
            None => Err(unknown),
        };
        match usual {
            Err(_) if self.certificates.iter().any(|known| known == shown) => {
                verify_server_name(&ParsedCertificate::try_from(shown)?, server)?;
                Ok(ServerCertVerified::assertion())
            }
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_that_cannot_be_read_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let trust = Trust::new(vec![folder.path().to_owned(), folder.path().join("missing")]);
        let registry = folder.path().join("reg.example:5000");
        fs::create_dir(&registry).unwrap();
        assert!(trust.config("reg.example:5000").is_ok());
        for (content, problem) in [("not PEM", "holds no certificate"), ("-----BEGIN CERTIFICATE-----\n!", "as PEM")] {
            fs::write(registry.join("ca.crt"), content).unwrap();
            let message = trust.config("reg.example:5000").unwrap_err().to_string();
            assert!(message.contains("ca.crt") && message.contains(problem), "{message}");
        }
        assert!(trust.config("reg.example").is_ok(), "another registry's folder");
    }

    #[test]
    fn a_name_never_leaves_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.crt"), "not PEM").unwrap();
        let trust = Trust::new(vec![folder.path().join("certs.d")]);
        fs::create_dir(folder.path().join("certs.d")).unwrap();
        assert!(trust.config("..").is_ok());
    }
}
