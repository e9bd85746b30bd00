"use strict";

// The token stays in this page's memory (persistAuthorization off), and nothing is asked of any other server:
// no validator badge, no code from elsewhere.
SwaggerUIBundle({
  dom_id: "#swagger-ui",
  url: "openapi.json",
  validatorUrl: null,
  persistAuthorization: false,
  queryConfigEnabled: false,
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: "list",
  tryItOutEnabled: true,
});
