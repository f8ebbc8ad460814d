# Two stages: the first builds with the settings of .cargo/config.toml (copied with the rest), the
# second holds the binary, the C++ runtime of OpenH264 and nothing to build with.
# `make gate` executes the RUN lines of both stages in folders made by debootstrap.

FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends cmake nasm pkg-config gcc g++ make && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked && cp target/release/crosspoint /usr/local/bin/crosspoint

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends libstdc++6 ca-certificates && rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/crosspoint crosspoint
COPY --from=build /usr/local/bin/crosspoint /usr/local/bin/crosspoint
USER crosspoint
WORKDIR /var/lib/crosspoint
VOLUME /var/lib/crosspoint
# SIP over UDP, TCP and TLS; media. The management port stays on loopback inside the container.
EXPOSE 5060/udp 5060/tcp 5061/tcp 40000-49999/udp
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["crosspoint", "status", "--health"]
ENTRYPOINT ["crosspoint"]
CMD ["run"]
