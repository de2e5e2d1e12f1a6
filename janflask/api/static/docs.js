// The documentation page: Swagger UI over the document that the page names. A key that is typed in is kept nowhere.
"use strict";

const place = document.getElementById("documentation");

SwaggerUIBundle({
  domNode: place,
  url: place.dataset.document,
  validatorUrl: null,
  tryItOutEnabled: true,
  deepLinking: true,
  persistAuthorization: false,
});
