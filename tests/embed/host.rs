//! A whole host of twenty lines: another program that has a gateway inside.
//!
//! `cargo run --example host`

use crosspoint::{Config, Gateway};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = Config::from_toml(
        "data = \"crosspoint-host-data\"\n[sip]\nlisten = [\"udp:127.0.0.1:0\"]\n[http]\nlisten = []\n[web]\nlisten = []\n\
         [[devices]]\nalias = \"alice\"\nusername = \"alice\"\npassword = \"only an example\"\n",
        "built in",
    )?;
    let gateway = Gateway::start(config).await?;
    for listen in gateway.listening() {
        println!("SIP listens on {listen}");
    }
    println!("{} calls now", gateway.status().calls.len());
    gateway.stop().await;
    Ok(())
}
