/* The libraries behind calls that take plain numbers and pointers only. */
#include <libavutil/channel_layout.h>
#include <libavutil/opt.h>
#include <libswresample/swresample.h>
#include <libyuv.h>
#include <speex/speex_resampler.h>
#include <srtp2/srtp.h>
#include <stdint.h>

/* libswresample as ffmpeg has it by default, mono. NULL when it fails. */
void *peer_swr_new(int from, int to) {
    AVChannelLayout mono = AV_CHANNEL_LAYOUT_MONO;
    SwrContext *context = NULL;
    if (swr_alloc_set_opts2(&context, &mono, AV_SAMPLE_FMT_S16, to, &mono, AV_SAMPLE_FMT_S16, from, 0, NULL) < 0)
        return NULL;
    if (swr_init(context) < 0)
        swr_free(&context);
    return context;
}

int peer_swr(void *context, const int16_t *in, int len, int16_t *out, int room) {
    const uint8_t *from = (const uint8_t *)in;
    uint8_t *to = (uint8_t *)out;
    return swr_convert(context, &to, room, &from, len);
}

void peer_swr_free(void *context) {
    SwrContext *its = context;
    swr_free(&its);
}

/* speexdsp's resampler, mono, quality 0 to 10. */
void *peer_speex_new(int from, int to, int quality) {
    int error = 0;
    return speex_resampler_init(1, from, to, quality, &error);
}

int peer_speex(void *state, const int16_t *in, int len, int16_t *out, int room) {
    spx_uint32_t taken = len, made = room;
    if (speex_resampler_process_int(state, 0, in, &taken, out, &made) != RESAMPLER_ERR_SUCCESS)
        return -1;
    return (int)made;
}

void peer_speex_free(void *state) { speex_resampler_destroy(state); }

/* I420 from `in` to `out`, planes one behind the other. */
int peer_yuv_scale(const uint8_t *in, int width, int height, uint8_t *out, int stride, int lines, int x, int y,
                   int to_width, int to_height, int filter) {
    int half = (width + 1) / 2, half_stride = (stride + 1) / 2;
    const uint8_t *u = in + width * height, *v = u + half * ((height + 1) / 2);
    uint8_t *to_u = out + stride * lines, *to_v = to_u + half_stride * ((lines + 1) / 2);
    int corner = y / 2 * half_stride + x / 2;
    return I420Scale(in, width, u, half, v, half, width, height, out + y * stride + x, stride, to_u + corner,
                     half_stride, to_v + corner, half_stride, to_width, to_height, filter);
}

int peer_yuv_to_rgba(const uint8_t *in, int width, int height, uint8_t *out) {
    int half = (width + 1) / 2;
    const uint8_t *u = in + width * height, *v = u + half * ((height + 1) / 2);
    return I420ToABGR(in, width, u, half, v, half, out, width * 4, width, height);
}

int peer_yuv_from_rgba(const uint8_t *rgba, int width, int height, uint8_t *out) {
    int half = (width + 1) / 2;
    uint8_t *u = out + width * height, *v = u + half * ((height + 1) / 2);
    return ABGRToI420(rgba, width * 4, out, width, u, half, v, half, width, height);
}

int peer_yuv_blend(const uint8_t *above, const uint8_t *alpha, uint8_t *below, int width, int height) {
    int half = (width + 1) / 2;
    const uint8_t *u = above + width * height, *v = u + half * ((height + 1) / 2);
    uint8_t *to_u = below + width * height, *to_v = to_u + half * ((height + 1) / 2);
    return I420Blend(above, width, u, half, v, half, below, width, to_u, half, to_v, half, alpha, width, below,
                     width, to_u, half, to_v, half, width, height);
}

/* AES_CM_128_HMAC_SHA1_80 with key and salt of 30 bytes. NULL when it fails. */
void *peer_srtp_new(uint8_t *key_and_salt) {
    static int begun;
    srtp_policy_t policy = {0};
    srtp_t session = NULL;
    if (!begun && srtp_init() != srtp_err_status_ok)
        return NULL;
    begun = 1;
    srtp_crypto_policy_set_aes_cm_128_hmac_sha1_80(&policy.rtp);
    srtp_crypto_policy_set_aes_cm_128_hmac_sha1_80(&policy.rtcp);
    policy.ssrc.type = ssrc_any_outbound;
    policy.key = key_and_salt;
    return srtp_create(&session, &policy) == srtp_err_status_ok ? session : NULL;
}

int peer_srtp_protect(void *session, uint8_t *packet, int len) {
    return srtp_protect(session, packet, &len) == srtp_err_status_ok ? len : -1;
}

void peer_srtp_free(void *session) { srtp_dealloc(session); }
