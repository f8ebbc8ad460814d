//! The library's two objects: made, asked and let go of here, and nowhere else.

#![allow(unsafe_code, reason = "this file binds a C library; each block says why it is sound")]

use std::ffi::c_int;
use std::ptr::NonNull;
use std::time::Duration;

use openh264_sys2 as sys;

use super::int;
use crate::codec::{CodecError, Decoded, Encoded};
use crate::frame::{Pool, VideoFrame};

const LIBRARY: &str = "OpenH264";

/// Calls a method of the library's object, `None` in its table being a failure of the library.
macro_rules! method {
    ($object:expr, $name:ident $(, $argument:expr)*) => {{
        let object = $object.as_ptr();
        // A table without the entry would be another library than the one compiled in.
        match (**object).$name {
            Some(method) => method(object $(, $argument)*),
            None => return Err(CodecError::Library { library: LIBRARY, code: i64::MIN }),
        }
    }};
}

fn checked(code: impl Into<i64>) -> Result<(), CodecError> {
    match code.into() {
        0 => Ok(()),
        code => Err(CodecError::Library { library: LIBRARY, code }),
    }
}

/// The library's encoder object, owned.
pub(super) struct RawEncoder {
    object: NonNull<sys::ISVCEncoder>,
    /// Filled by the library with where its bytes are; 8 KiB, so made once.
    info: Box<sys::SFrameBSInfo>,
}

// SAFETY: the object has no ties to the thread that made it (with one thread configured it has
// none of its own either) and is reached through `&mut` only.
unsafe impl Send for RawEncoder {}

/// As the C++ interface declares it; the C header leaves out the last argument.
type ForceIntraFrame = unsafe extern "C" fn(*mut sys::ISVCEncoder, bool, c_int) -> c_int;

impl RawEncoder {
    pub(super) fn new() -> Result<Self, CodecError> {
        let mut object = std::ptr::null_mut();
        // SAFETY: the call writes a pointer to a new object, or null.
        let code = unsafe { sys::source::APILoader::WelsCreateSVCEncoder(&raw mut object) };
        checked(code)?;
        let object = NonNull::new(object).ok_or(CodecError::Library { library: LIBRARY, code: 0 })?;
        let raw = Self { object, info: Box::default() };
        let mut quiet: c_int = sys::WELS_LOG_QUIET;
        raw.set(sys::ENCODER_OPTION_TRACE_LEVEL, &mut quiet)?;
        Ok(raw)
    }

    pub(super) fn default_params(&self) -> Result<sys::SEncParamExt, CodecError> {
        let mut params = sys::SEncParamExt::default();
        // SAFETY: the object lives as long as `self`; the call fills the struct that it is given.
        checked(unsafe { method!(self.object, GetDefaultParams, &raw mut params) })?;
        Ok(params)
    }

    pub(super) fn initialize(&self, params: &sys::SEncParamExt) -> Result<(), CodecError> {
        // SAFETY: the object lives as long as `self`; the parameters are read during the call.
        checked(unsafe { method!(self.object, InitializeExt, std::ptr::from_ref(params)) })
    }

    fn set<T>(&self, option: sys::ENCODER_OPTION, value: &mut T) -> Result<(), CodecError> {
        // SAFETY: the object lives as long as `self`; each caller gives the type that the option
        // is documented with, and it is read during the call.
        checked(unsafe { method!(self.object, SetOption, option, std::ptr::from_mut(value).cast()) })
    }

    pub(super) fn set_bitrate(&self, bits: c_int) -> Result<(), CodecError> {
        let mut info = sys::SBitrateInfo { iLayer: sys::SPATIAL_LAYER_ALL, iBitrate: bits };
        self.set(sys::ENCODER_OPTION_BITRATE, &mut info)?;
        info.iLayer = sys::SPATIAL_LAYER_0;
        self.set(sys::ENCODER_OPTION_BITRATE, &mut info)
    }

    pub(super) fn set_frame_rate(&self, mut rate: f32) -> Result<(), CodecError> {
        self.set(sys::ENCODER_OPTION_FRAME_RATE, &mut rate)
    }

    pub(super) fn force_idr(&self) -> Result<(), CodecError> {
        let object = self.object.as_ptr();
        // SAFETY: the object lives as long as `self`, and its table was made by the library.
        let Some(method) = (unsafe { (**object).ForceIntraFrame }) else {
            return Err(CodecError::Library { library: LIBRARY, code: i64::MIN });
        };
        // SAFETY: the compiled method has the C++ signature with the layer as its last argument;
        // called by the C header's it would read that from a register that nobody set.
        let method = unsafe {
            std::mem::transmute::<unsafe extern "C" fn(*mut sys::ISVCEncoder, bool) -> c_int, ForceIntraFrame>(
                method,
            )
        };
        // SAFETY: as above; -1 means all layers.
        checked(unsafe { method(object, true, -1) })
    }

    pub(super) fn encode(
        &mut self,
        frame: &VideoFrame,
        size: (usize, usize),
        at: Duration,
        out: &mut [u8],
    ) -> Result<Encoded, CodecError> {
        let chroma = int(frame.width().div_ceil(2));
        let picture = sys::SSourcePicture {
            iColorFormat: sys::videoFormatI420,
            iStride: [int(frame.width()), chroma, chroma, 0],
            pData: [
                frame.y().as_ptr().cast_mut(),
                frame.u().as_ptr().cast_mut(),
                frame.v().as_ptr().cast_mut(),
                std::ptr::null_mut(),
            ],
            iPicWidth: int(size.0),
            iPicHeight: int(size.1),
            uiTimeStamp: i64::try_from(at.as_millis()).unwrap_or(i64::MAX),
            ..Default::default()
        };
        let info = &mut *self.info;
        // SAFETY: the object lives as long as `self` and was initialised; the planes hold
        // `height` lines of their strides (`VideoFrame` sees to it), are copied by the call and
        // not written to.
        checked(unsafe { method!(self.object, EncodeFrame, &raw const picture, std::ptr::from_mut(info)) })?;
        if matches!(info.eFrameType, sys::videoFrameTypeSkip | sys::videoFrameTypeInvalid) {
            return Ok(Encoded { len: 0, keyframe: false });
        }
        let (mut len, room) = (0, out.len());
        let layers = usize::try_from(info.iLayerNum).unwrap_or(0);
        for layer in info.sLayerInfo.iter().take(layers) {
            let count = usize::try_from(layer.iNalCount).unwrap_or(0);
            if count == 0 || layer.pBsBuf.is_null() || layer.pNalLengthInByte.is_null() {
                continue;
            }
            // SAFETY: the library keeps `iNalCount` lengths there until the next call.
            let lengths = unsafe { std::slice::from_raw_parts(layer.pNalLengthInByte, count) };
            let bytes = lengths.iter().map(|len| usize::try_from(*len).unwrap_or(0)).sum::<usize>();
            // SAFETY: the NAL units of a layer lie one behind the other from `pBsBuf` on, for as
            // many bytes as their lengths say, until the next call.
            let layer = unsafe { std::slice::from_raw_parts(layer.pBsBuf, bytes) };
            let needed = usize::try_from(info.iFrameSizeInBytes).unwrap_or(0).max(len + bytes);
            out.get_mut(len..len + bytes).ok_or(CodecError::Room { needed, room })?.copy_from_slice(layer);
            len += bytes;
        }
        Ok(Encoded { len, keyframe: info.eFrameType == sys::videoFrameTypeIDR })
    }
}

impl Drop for RawEncoder {
    fn drop(&mut self) {
        let object = self.object.as_ptr();
        // SAFETY: the object came from the library's constructor and is not used afterwards; to
        // uninitialise one that never was initialised does nothing.
        unsafe {
            if let Some(uninitialize) = (**object).Uninitialize {
                uninitialize(object);
            }
            sys::source::APILoader::WelsDestroySVCEncoder(object);
        }
    }
}

/// An access unit delimiter. A picture whose last slices are missing is otherwise held back, since
/// they might still come, until the next unit begins: this begins one.
const DELIMITER: &[u8] = &[0, 0, 0, 1, 9, 0xf0];

/// The library's decoder object, owned and initialised.
pub(super) struct RawDecoder(NonNull<sys::ISVCDecoder>);

// SAFETY: as for the encoder; decoder threads are off by default.
unsafe impl Send for RawDecoder {}

impl RawDecoder {
    pub(super) fn new() -> Result<Self, CodecError> {
        let mut object = std::ptr::null_mut();
        // SAFETY: the call writes a pointer to a new object, or null.
        let code = unsafe { sys::source::APILoader::WelsCreateDecoder(&raw mut object) };
        checked(code)?;
        let raw = Self(NonNull::new(object).ok_or(CodecError::Library { library: LIBRARY, code: 0 })?);
        let mut quiet: c_int = sys::WELS_LOG_QUIET;
        // SAFETY: the object lives as long as `raw`; the option takes an int, read during the call.
        checked(unsafe {
            method!(raw.0, SetOption, sys::DECODER_OPTION_TRACE_LEVEL, (&raw mut quiet).cast())
        })?;
        let params = sys::SDecodingParam {
            // What is missing stays as it was. The kinds that move it, by the mean of all motion around it, drag
            // what stands still along, further with each loss: a background, letters, a frame. And those that
            // freeze where the size changes take a decoder that begins, or begins anew after a fault, for one
            // whose size has changed, and wait for a whole keyframe, which on a bad road may not come. Another
            // size makes another decoder here.
            eEcActiveIdc: sys::ERROR_CON_SLICE_COPY_CROSS_IDR,
            uiTargetDqLayer: u8::MAX,
            sVideoProperty: sys::SVideoProperty {
                size: u32::try_from(size_of::<sys::SVideoProperty>()).unwrap_or(0),
                eVideoBsType: sys::VIDEO_BITSTREAM_AVC,
            },
            ..Default::default()
        };
        // SAFETY: as above; the parameters are read during the call.
        checked(unsafe { method!(raw.0, Initialize, &raw const params) })?;
        Ok(raw)
    }

    /// Decodes one unit and asks at once for its picture. The library's own call for this loses
    /// a picture that the first of its two steps gave out, so the steps are made here.
    pub(super) fn decode(&mut self, unit: &[u8], pool: &Pool) -> Result<Decoded, CodecError> {
        let (mut picture, mut state) = self.step(Some(unit), pool)?;
        for more in [None, Some(DELIMITER)] {
            if more.is_some() && picture.is_some() {
                break;
            }
            let (late, late_state) = self.step(more, pool)?;
            picture = late.or(picture);
            state |= late_state;
        }
        match picture {
            Some(frame) => Ok(Decoded::Picture { frame, concealed: state != sys::dsErrorFree }),
            None if state & (sys::dsOutOfMemory | sys::dsInitialOptExpected | sys::dsInvalidArgument)
                != 0 =>
            {
                Err(CodecError::Library { library: LIBRARY, code: i64::from(state) })
            }
            None if state & sys::dsNoParamSets != 0 => {
                Err(CodecError::Malformed("parameter sets are missing"))
            }
            None if state & !sys::dsFramePending != 0 => {
                Err(CodecError::Malformed("nothing of it can be shown"))
            }
            None => Ok(Decoded::Nothing),
        }
    }

    fn step(
        &mut self,
        unit: Option<&[u8]>,
        pool: &Pool,
    ) -> Result<(Option<VideoFrame>, sys::DECODING_STATE), CodecError> {
        let mut planes = [std::ptr::null_mut(); 3];
        let mut info = sys::SBufferInfo::default();
        let (bytes, len) = match unit {
            Some(unit) => (unit.as_ptr(), c_int::try_from(unit.len()).unwrap_or(0)),
            None => (std::ptr::null(), 0),
        };
        // SAFETY: the object lives as long as `self` and is initialised; it reads `len` bytes
        // during the call, and writes three pointers and the struct.
        let state = unsafe { method!(self.0, DecodeFrame2, bytes, len, planes.as_mut_ptr(), &raw mut info) };
        if info.iBufferStatus != 1 {
            return Ok((None, state));
        }
        // SAFETY: with a picture ready this is the member of the union that is filled, and all
        // bits are valid for it.
        let memory = unsafe { info.UsrData.sSystemBuffer };
        let side = |value: c_int| usize::try_from(value).unwrap_or(0);
        let (width, height) = (side(memory.iWidth), side(memory.iHeight));
        let strides = memory.iStride.map(side);
        let chroma = (width.div_ceil(2), height.div_ceil(2));
        let sound = strides[0] >= width
            && strides[1] >= chroma.0
            && memory.iFormat == sys::videoFormatI420
            && planes.iter().all(|plane| !plane.is_null());
        if !sound {
            return Ok((None, state | sys::dsBitstreamError));
        }
        let copy = |plane: *mut u8, stride: usize, width: usize, to: &mut [u8]| {
            for (line, to) in to.chunks_exact_mut(width).enumerate() {
                // SAFETY: the library's plane holds as many lines of `stride` bytes as the
                // picture has, until the next call; `width` is at most `stride`.
                let from = unsafe { std::slice::from_raw_parts(plane.add(line * stride), width) };
                to.copy_from_slice(from);
            }
        };
        let frame = VideoFrame::new(pool, width, height, |to| {
            copy(planes[0], strides[0], width, to.y);
            copy(planes[1], strides[1], chroma.0, to.u);
            copy(planes[2], strides[1], chroma.0, to.v);
        });
        frame.map(|frame| (Some(frame), state)).ok_or(CodecError::NoPicture)
    }
}

impl Drop for RawDecoder {
    fn drop(&mut self) {
        let object = self.0.as_ptr();
        // SAFETY: the object came from the library's constructor and is not used afterwards.
        unsafe {
            if let Some(uninitialize) = (**object).Uninitialize {
                uninitialize(object);
            }
            sys::source::APILoader::WelsDestroyDecoder(object);
        }
    }
}
