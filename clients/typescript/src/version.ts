/** The version of this package: that of the server it was built with. */
export const version = "0.1.0";
