'use strict';
// healthy-idle.js: a service that nobody asks for anything.
const { serve, reply } = require('./shared');

serve({ expect: null, path: '/', rate: 0, connections: 0, quiet: true, routes: { '/': (req, res) => reply(res) } });
