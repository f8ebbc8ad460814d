//! Video codecs, one file each, behind the traits of [`crate::codec`].

#[cfg(feature = "h264")]
pub mod h264;
pub mod nal;
pub mod sps;
