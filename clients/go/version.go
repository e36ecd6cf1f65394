package runloom

// Version is the version of this module: that of the server it was built with.
const Version = "0.1.0"
