//! Building an image from a folder, through the engine.

use crate::engine::{Engine, EngineError};
use bollard::query_parameters::BuildImageOptionsBuilder;
use futures_util::StreamExt as _;

impl Engine {
    /// Builds `tag` from a tar of the context. `line` gets what the engine says, a line at a time.
    ///
    /// The classic builder: it is in every engine, and what it needs goes through this one request.
    pub async fn build(
        &self,
        tag: &str,
        dockerfile: &str,
        context: Vec<u8>,
        mut line: impl FnMut(&str),
    ) -> Result<(), EngineError> {
        self.permit().await?;
        let options = BuildImageOptionsBuilder::default().t(tag).dockerfile(dockerfile).rm(true).forcerm(true).build();
        let mut progress =
            std::pin::pin!(self.docker().build_image(options, None, Some(bollard::body_full(context.into()))));
        while let Some(info) = progress.next().await {
            let info = info?;
            if let Some(error) = info.error_detail.and_then(|detail| detail.message) {
                return Err(EngineError::Refused { status: 0, message: error });
            }
            for text in info.stream.iter().flat_map(|text| text.lines()).filter(|text| !text.trim().is_empty()) {
                line(text);
            }
        }
        Ok(())
    }
}
